"""What QGIS makes of files when it opens them, for the Python that has QGIS.

    /usr/bin/python3 tests/qgis_layers.py FOLDER FILE...

Prints a JSON array with what QGIS says of each file, and writes FOLDER/0.png and so on: each file
as QGIS draws it on a transparent map.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from qgis.core import (  # type: ignore[import-not-found]
    QgsApplication,
    QgsLayerTree,
    QgsLayerTreeModel,
    QgsMapRendererSequentialJob,
    QgsMapSettings,
    QgsProject,
    QgsRasterLayer,
    QgsSymbol,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize  # type: ignore[import-not-found]
from qgis.PyQt.QtGui import QColor  # type: ignore[import-not-found]


def _opened(path: str) -> Any:
    vector = not path.partition("|")[0].endswith(".tif")
    layer = QgsVectorLayer(path, path) if vector else QgsRasterLayer(path, path)
    QgsProject.instance().addMapLayer(layer)
    return layer


def _description(layer: Any) -> dict[str, Any]:
    renderer, tree = layer.renderer(), QgsLayerTree()
    model = QgsLayerTreeModel(tree)  # its nodes live as long as it does
    nodes = model.layerLegendNodes(tree.addLayer(layer))
    found = {
        "valid": layer.isValid(),
        "renderer": renderer.type(),
        "crs": layer.crs().authid(),
        "legend": [str(node.data(0)) for node in nodes],
    }
    if isinstance(layer, QgsVectorLayer):
        found["features"] = layer.featureCount()
        if renderer.type() == "categorizedSymbol":
            found["classes"] = [
                (each.value(), each.symbol().color().name(), _opacity(each.symbol()))
                for each in renderer.categories()
            ]
        if layer.labelsEnabled():
            settings = layer.labeling().settings()
            found["labels"] = (settings.fieldName, settings.isExpression)
        return found
    symbols = [
        (text, colour.name(), colour.alpha()) for text, colour in renderer.legendSymbologyItems()
    ]
    found |= {"symbols": symbols, "bands": renderer.usesBands()}
    if renderer.type() == "singlebandpseudocolor":
        ramp = renderer.shader().rasterShaderFunction()
        found["ramp"] = (ramp.minimumValue(), ramp.maximumValue(), ramp.legendSettings().suffix())
    return found


def _opacity(symbol: Any) -> str:
    properties = symbol.dataDefinedProperties()
    return str(properties.property(QgsSymbol.PropertyOpacity).expressionString())


def _draw(layer: Any, path: str) -> None:
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(layer.extent())
    settings.setOutputSize(QSize(256, 160))
    settings.setBackgroundColor(QColor(0, 0, 0, 0))
    job = QgsMapRendererSequentialJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(path)


def main() -> None:
    folder, *paths = sys.argv[1:]
    application = QgsApplication([], False)  # without windows
    application.initQgis()
    layers = [_opened(path) for path in paths]
    for number, layer in enumerate(layers):
        _draw(layer, f"{folder}/{number}.png")
    sys.stdout.write(json.dumps([_description(layer) for layer in layers]))
    QgsProject.instance().clear()
    layers.clear()
    application.exitQgis()


if __name__ == "__main__":
    main()
