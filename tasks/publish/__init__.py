"""Publish an image's results: files in S3 and folders, records on Kinesis streams.

`publish_image` is what a run of an image calls. `tasks.publish.formats` says how to add a format.
"""

from tasks.publish.earlier import EarlierPublication, already_published, standing_outputs
from tasks.publish.feature_metadata import FeatureMetadata
from tasks.publish.features import Features, geolocate
from tasks.publish.formats import FILE_ENDINGS
from tasks.publish.image_results import ImageResults, ReadDetections
from tasks.publish.outputs import check_outputs
from tasks.publish.provenance import Provenance
from tasks.publish.publication import Failure, Published, StandingOutput, publish, publish_image
from tasks.publish.source_images import check_images_stay

__all__ = [
    "FILE_ENDINGS",
    "EarlierPublication",
    "Failure",
    "FeatureMetadata",
    "Features",
    "ImageResults",
    "Provenance",
    "Published",
    "ReadDetections",
    "StandingOutput",
    "already_published",
    "check_images_stay",
    "check_outputs",
    "geolocate",
    "publish",
    "publish_image",
    "standing_outputs",
]
