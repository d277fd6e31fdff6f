"""Chooses the best of the georeferences that an image has."""

from __future__ import annotations

from typing import Any

from pyproj.exceptions import ProjError
from rasterio.rpc import RPC

from tasks.imagery.georeference import Georeference
from tasks.imagery.georeference.affine import AffineGeoreference
from tasks.imagery.georeference.rpc import RpcGeoreference
from tasks.imagery.georeference.spline import SplineGeoreference
from tasks.imagery.nitf_header import rpcs_of_nitf


def georeference_of(
    dataset: Any,  # noqa: ANN401 - rasterio has no types
    dem_uri: str | None = None,
) -> Georeference | None:
    """Choose the best georeference of an open dataset; None if it has no usable one.

    The order is: the sensor model of a SICD or SIDD; in any other NITF its RPC, then its corner
    points, which are accurate to tens of metres; in other formats the geotransform, then GCPs, then
    RPC, as in GDAL. The RPC of a NITF chip are adapted by its ICHIPB, which GDAL does not do. A
    geotransform or GCPs are not used without a CRS, or if it cannot be converted to WGS 84.

    Args:
        dataset: The open dataset.
        dem_uri: Elevation model for RPC and SICD (see `ground_of`), or None.

    Raises:
        ImageError: The elevation model cannot be read.
    """
    if dataset.driver != "NITF":
        return _by_coordinates(dataset, None) or _by_rpc(dataset.rpcs, dem_uri)
    tags = dataset.tags()
    note = "corner points (IGEOLO)"
    if (standard := tags.get("NITF_IID1", "")[:4]) in ("SICD", "SIDD"):
        try:
            return _by_sensor_model(dataset, standard, dem_uri)
        except ValueError as reason:
            note = f"corner points (IGEOLO), as it is a {reason}"
    rpc = _by_rpc(rpcs_of_nitf(dataset), dem_uri)
    return rpc or _by_coordinates(dataset, note if tags.get("NITF_IGEOLO") else None)


def _by_sensor_model(dataset: Any, standard: str, dem_uri: str | None) -> Georeference:  # noqa: ANN401
    try:
        from tasks.imagery.georeference.sar import sar_georeference  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise ValueError(f"{standard} without the `sar` extra") from error
    return sar_georeference(dataset, standard, dem_uri)


def _by_rpc(rpcs: RPC | None, dem_uri: str | None) -> Georeference | None:
    return RpcGeoreference(rpcs, dem_uri) if rpcs else None


def _by_coordinates(dataset: Any, corners: str | None) -> Georeference | None:  # noqa: ANN401
    """The georeference by geotransform or GCPs; None without a usable one.

    Args:
        dataset: The open dataset.
        corners: Description of the corner points of a NITF, if these are them; else None.
    """
    points, points_crs = dataset.gcps
    try:
        if dataset.crs and not dataset.transform.is_identity:
            size = (dataset.width, dataset.height)
            kind = "igeolo" if corners else "affine"
            return AffineGeoreference(dataset.transform, dataset.crs.to_wkt(), size, kind, corners)
        if len(points) > 2 and points_crs:
            kind = "igeolo" if corners else "gcp"
            return SplineGeoreference(points, points_crs.to_wkt(), kind, corners)
    except ProjError:
        return None
    return None
