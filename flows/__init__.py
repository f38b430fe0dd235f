"""What the flow tables mean: pure values and functions, standard library only, no I/O."""
