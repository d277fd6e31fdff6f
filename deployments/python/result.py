"""The result of a run as `swath.run` returns it: tables, a plot and files."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tasks.errors import PublishError, StackError
from tasks.storage.temporary import temporary_folder

if TYPE_CHECKING:
    import geopandas
    import numpy as np
    import pyarrow as pa
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from tasks.imagery import Image
    from tasks.reporting.summary import Summary
    from tasks.request import Request

    Geometries = NDArray[np.object_]

_WORLD = "EPSG:4326"
_IN_NOTEBOOK = 800  # pixels of the longer side of the picture that a notebook shows


class ResultFolder:
    """A temporary folder that is removed with the last result whose files lie in it.

    Attributes:
        path: The folder.
        remove: Removes it now.
    """

    def __init__(self) -> None:
        """Make the folder."""
        stack = ExitStack()
        self.path = stack.enter_context(temporary_folder())
        self.remove = weakref.finalize(self, stack.close)


class Result:
    """What a model found in an image, features or a raster, and the ledger of its tiles.

    Its files lie in a temporary folder, which is removed with this object or at the end of the
    process, unless `swath.run` was given a folder for them. The tables are read when they are first
    used, and are then independent of the files.

    Attributes:
        summary: The outcome: status, counts, reasons.
    """

    def __init__(self, summary: Summary, request: Request, folder: ResultFolder) -> None:
        """Refer to published files.

        Args:
            summary: The outcome, which names the files.
            request: The message, which says how the image is read.
            folder: Keeps the files that lie in it.
        """
        self.summary = summary
        self._request, self._folder = request, folder

    @property
    def files(self) -> dict[str, Path]:
        """The published files by name: `geojson`, `parquet`, `coverage`.

        Without a georeference `pixels.geojson` is in place of `geojson`. Of a raster `raster`,
        `scores`, `classes` (their names) and `style` (of QGIS).
        """
        return {name: Path(uri) for name, uri in self.summary.outputs.items()}

    @property
    def raster(self) -> Path | None:
        """The class map or the values as a Cloud Optimized GeoTIFF; None without a raster."""
        return self.files.get("raster")

    @property
    def scores(self) -> Path | None:
        """The probability of every class, a band each; None unless `scores` was given."""
        return self.files.get("scores")

    @cached_property
    def features(self) -> geopandas.GeoDataFrame:
        """The features, a row each, with the columns of the published GeoParquet.

        The geometry is in longitude and latitude (EPSG:4326); of an image without a georeference it
        is in pixels, as in `features_in_pixels`.

        Raises:
            StackError: geopandas is not installed.
            PublishError: The file is gone.
        """
        frame = _read_frame(self._features, _image_geometries)
        return frame.drop(columns="image_geometry")

    @cached_property
    def features_in_pixels(self) -> geopandas.GeoDataFrame:
        """The same rows with the geometry in pixels of the image, corner-origin, and no `crs`.

        Raises:
            StackError: geopandas is not installed.
            PublishError: The file is gone.
        """
        frame = _read_frame(self._features, _image_geometries, always=True)
        return frame.drop(columns="image_geometry")

    @property
    def _features(self) -> Path:
        if "parquet" not in self.files:
            if self.raster is None:
                raise PublishError(
                    "formats has no parquet, which the tables and the plot are read from: name it "
                    "too."
                )
            raise PublishError(
                "The model answers with pixels, so there are no features: open result.raster, or "
                "give polygons=True."
            )
        return self.files["parquet"]

    @cached_property
    def ledger(self) -> geopandas.GeoDataFrame:
        """The tiles, a row each: window, state, reason, calls, and the footprint as geometry.

        Raises:
            StackError: geopandas is not installed.
            PublishError: The file is gone.
        """
        return _read_frame(self.files["coverage"], _windows)

    def preview(self, size: int = 1024, encoding: Literal["PNG", "JPEG"] = "PNG") -> bytes:
        """A picture of the image, its features or raster and its failed tiles, whatever its size.

        Args:
            size: Pixels of the longer side.
            encoding: PNG or JPEG.

        Raises:
            ImageError: The image cannot be read, or was replaced.
        """
        from tasks.publish.preview import preview_of_files

        files = self.files
        return preview_of_files(
            self._image,
            files.get("parquet"),
            files["coverage"],
            files.get("raster"),
            size=size,
            encoding=encoding,
            read_role=self._request.image_read_role,
        )

    def plot(
        self, ax: Axes | None = None, *, size: int = 1024, legend: bool = True, **style: object
    ) -> Axes:
        """Plot the image in pixels, with its raster or the outlines of its features.

        Each class has a colour. Failed tiles are hatched.

        Args:
            ax: Axes to plot into; None for new ones.
            size: Pixels of the longer side that the image is read with.
            legend: Whether to add a legend with the classes and their number of features or share.
            style: Arguments of `GeoSeries.plot`, such as `linewidth`; of a raster, of `imshow`.

        Returns:
            The axes.

        Raises:
            StackError: geopandas or matplotlib is not installed.
            ImageError: The image cannot be read, or was replaced.
        """
        features = None if self.raster else self.features_in_pixels
        ledger, image = self.ledger, self._image
        try:
            from deployments.python import plot
        except ImportError as error:
            raise _missing("matplotlib") from error
        if ax is None:
            ax = plot.new_axes(image)
        plot.plot_image(ax, image, size, self._request.image_read_role)
        if self.raster:
            plot.plot_raster(ax, image, self.raster, size, legend=legend, **style)
        plot.plot_failed(ax, ledger)
        if features is not None:
            plot.plot_features(ax, features, legend=legend, **style)
        return ax

    def save(self, folder: str | Path) -> dict[str, Path]:
        """Copy the files to a folder, which is made if it is missing.

        Returns:
            The path of each file by its name, as of `files`.

        Raises:
            PublishError: A file cannot be written.
        """
        from tasks.storage import objects

        target = Path(folder).absolute()
        saved = {name: target / path.name for name, path in self.files.items()}
        for name, path in self.files.items():
            objects.put(str(saved[name]), path)
        return saved

    def __repr__(self) -> str:
        return f"<swath.Result {self.summary.status}: {self.summary.message}>"

    def _repr_jpeg_(self) -> bytes:
        """What a notebook shows; each time it is opened and saved, so a small file."""
        return self.preview(_IN_NOTEBOOK, "JPEG")

    @property
    def _image(self) -> Image:
        from tasks.imagery import open_image
        from tasks.planning.image import as_requested

        url, request = self.summary.image, self._request
        roots = [] if "://" in url else [Path(url).resolve().parent]
        image = open_image(url, read_role=request.image_read_role, roots=roots)
        return as_requested(image, request)


def _read_frame(
    path: Path, in_pixels: Callable[[pa.Table], Geometries], *, always: bool = False
) -> geopandas.GeoDataFrame:
    """A file of GeoParquet with its geometry or, where no place is known, with another in pixels.

    Args:
        path: The file.
        in_pixels: Makes the geometries in pixels.
        always: Whether the geometries are in pixels wherever the image is.

    Raises:
        StackError: geopandas is not installed.
        PublishError: The file is gone.
    """
    if not path.exists():
        raise PublishError(
            f"{path} is gone. Without out, the files of a result end with the process that made "
            "it: give out, or use the tables there."
        )
    try:
        import geopandas
    except ImportError as error:
        raise _missing("geopandas") from error
    import orjson
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        geo = orjson.loads(file.metadata.metadata[b"geo"])["columns"]["geometry"]
        table = file.read()
    georeferenced = "crs" not in geo and not always
    geometry = _from_wkb(table["geometry"]) if georeferenced else in_pixels(table)
    frame = table.drop_columns(["geometry", "bbox"]).to_pandas()
    crs = _WORLD if georeferenced else None
    return geopandas.GeoDataFrame(frame, geometry=geometry, crs=crs)


def _image_geometries(features: pa.Table) -> Geometries:
    return _from_wkb(features["image_geometry"])


def _windows(ledger: pa.Table) -> Geometries:
    import shapely

    x, y, width, height = (ledger[name].to_numpy() for name in ("x", "y", "width", "height"))
    windows: Geometries = shapely.box(x, y, x + width, y + height)
    return windows


def _from_wkb(column: Any) -> Geometries:  # noqa: ANN401 - of Arrow or pandas
    import numpy as np
    import shapely

    geometries: Geometries = shapely.from_wkb(np.asarray(column, dtype=object))
    return geometries


def _missing(library: str) -> StackError:
    return StackError(
        f"{library} is not installed, which tables and plots need: pip install 'swath[python]'. "
        "The files are there without it: result.files, result.save(folder)."
    )
