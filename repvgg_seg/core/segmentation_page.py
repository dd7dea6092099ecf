"""The page that shows pictures with their label maps, around a script that makes these."""
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2

PAGE = Path(__file__).parent / 'page'


def page_html(folder: str, scripts: Sequence[str], links: Mapping[str, str], privacy: str, policy: str = '') -> str:
    """Write the HTML of the page.

    Args:
        folder: address of ``page.css`` and ``page.js``, which ends in a slash unless it is empty.
        scripts: addresses of the scripts that make the label maps, see ``page.js``.
        links: addresses of other pages, and their names.
        privacy: sentence about where pictures go.
        policy: content security policy, if the server does not send one.
    """
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(PAGE), autoescape=True, undefined=jinja2.StrictUndefined,
                                     trim_blocks=True, lstrip_blocks=True)
    return environment.get_template('page.html').render(folder=folder, scripts=scripts, links=links, privacy=privacy,
                                                        policy=policy)
