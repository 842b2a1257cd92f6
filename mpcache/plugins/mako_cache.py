"""A plugin for Mako: templates cache what they rendered in regions.

Depends on the public names, and on Mako::

    regions = {"short": mpcache.make_region().configure("mpcache.memory", expiration_time=60),
               "shared": mpcache.shared("myapp")}
    lookup = TemplateLookup(directories=[...], cache_impl="mpcache", cache_args={"regions": regions})

    <%def name="menu()" cached="True" cache_region="shared" cache_timeout="300"> ... </%def>
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mako.cache import CacheImpl

if TYPE_CHECKING:
    from mpcache.region import CacheRegion


class MakoPlugin(CacheImpl):  # type: ignore[misc]  # Mako carries no types
    """Mako's ``cache_impl`` over the regions in ``cache_args["regions"]``; a tag names its region by ``cache_region``.

    Keys are those that Mako makes: ``render_menu`` for the def of that name, ``render_body`` for a page, whatever the
    template.  Two templates with such a name in common need a ``cache_key`` each, or regions of their own.

    :raises KeyError: there are no regions, or a tag names none, or one that does not exist.
    """

    def __init__(self, cache: Any) -> None:
        super().__init__(cache)
        try:
            self.regions: dict[str, CacheRegion] = cache.template.cache_args["regions"]
        except KeyError:
            raise KeyError(
                "the template has no regions to be cached in; give the Template or the TemplateLookup"
                " cache_args={'regions': {name: region}}"
            ) from None

    def get_or_create(self, key: str, creation_function: Callable[[], Any], **kw: Any) -> Any:
        """Return the cached text, or else render it now; ``timeout`` is the expiration time in seconds."""
        return self._region(kw).get_or_create(key, creation_function, expiration_time=_seconds(kw))

    get_and_replace = get_or_create  # an older name of Mako's for it

    def set(self, key: str, value: Any, **kw: Any) -> None:
        """Store a text."""
        self._region(kw).set(key, value)

    put = set

    def get(self, key: str, **kw: Any) -> Any:
        """Return the cached text, or NO_VALUE."""
        return self._region(kw).get(key, expiration_time=_seconds(kw))

    def invalidate(self, key: str, **kw: Any) -> None:
        """Delete a cached text."""
        self._region(kw).delete(key)

    def _region(self, kw: dict[str, Any]) -> CacheRegion:
        name = kw.get("region")
        if name in self.regions:
            return self.regions[name]
        known = ", ".join(sorted(self.regions))
        if name is None:
            raise KeyError(f"a tag with cached='True' has to name its cache_region, one of: {known}")
        raise KeyError(f"no region is named {name!r}; there are: {known}")


def _seconds(kw: dict[str, Any]) -> float | None:
    timeout = kw.get("timeout")
    return float(timeout) if isinstance(timeout, str) else timeout
