"""``python -m repvgg_seg VERB`` is ``repvgg-seg VERB``."""
from .commands.main import main

if __name__ == '__main__':
    main()
