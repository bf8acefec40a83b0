"""Edge maps of instance masks (Method B): computed from SA-1B annotations, kept up to date inside features files."""

from typing import TYPE_CHECKING

from toolkit.core.lazy import lazy_names

if TYPE_CHECKING:
    from toolkit.edges.method_b import edge_maps, extract_edges_method_b, scaled_edge_maps

__all__ = ["edge_maps", "extract_edges_method_b", "scaled_edge_maps"]

__getattr__ = lazy_names(__name__, {"method_b": ("edge_maps", "extract_edges_method_b", "scaled_edge_maps")})
