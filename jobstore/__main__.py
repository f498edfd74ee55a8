"""``python -m jobstore``."""

from jobstore.cli import main

if __name__ == "__main__":
    main()
