"""`python -m controller` is the same as `tunbridge`."""
from controller.tools.cli import main

if __name__ == "__main__":
    main()
