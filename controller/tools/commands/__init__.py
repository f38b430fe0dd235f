"""The commands as typer sees them: arguments in, words out; what they do is in the modules beside."""
