"""The page of an image's results: one HTML file that works offline, to look at and to share.

It shows the image with its features, raster and tiles, and what the ledger and the request say of
the run. `page_file` writes it as a format of a publication, `page_of_files` makes it from files
that are published already. `source/` has its HTML, style and program, and says what is embedded.
"""

from tasks.publish.page.published import page_of_files
from tasks.publish.page.writer import page_file

__all__ = ["page_file", "page_of_files"]
