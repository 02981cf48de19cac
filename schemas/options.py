"""The options of ``fetch()``: title, icons, totals (§ BackgroundFetchOptions)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from pydantic import ValidationError

from schemas.errors import InvalidOptions
from schemas.messages import FORM, Message

MAX_TITLE_BYTES = 64 * 1024
MAX_ICONS = 64
MAX_ICON_BYTES = 16 * 1024


class ImageResource(Message):
    """An icon: where it is and how large (Image Resource specification)."""

    src: str
    sizes: str = ""
    type: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """What a caller may say about a background fetch beside its requests."""

    __pydantic_config__ = FORM

    title: str = ""
    icons: tuple[ImageResource, ...] = ()
    download_total: int = 0
    hold: timedelta = timedelta(0)

    @classmethod
    def checked(
        cls,
        title: str,
        icons: Iterable[ImageResource | Mapping[str, str]],
        download_total: int,
        hold: timedelta,
    ) -> FetchOptions:
        """Copy and check the options (BF-FETCH-19, BF-IDL-05, BF-IDL-06).

        Raises:
            InvalidOptions: a value has the wrong type, or is out of range.
        """
        return cls(
            check_title(title),
            check_icons(icons),
            _check_total(download_total),
            _check_hold(hold),
        )


def check_title(title: str) -> str:
    """Return ``title`` if it is text of at most 64 KiB.

    Raises:
        InvalidOptions: it is not.
    """
    if not isinstance(title, str):
        raise InvalidOptions(f"title must be a string, got {title!r}")
    if len(title.encode("utf-8", "replace")) > MAX_TITLE_BYTES:
        raise InvalidOptions(f"title has at most {MAX_TITLE_BYTES} bytes")
    return title


def check_icons(
    icons: Iterable[ImageResource | Mapping[str, str]],
) -> tuple[ImageResource, ...]:
    """Copy the icons.

    Raises:
        InvalidOptions: there are more than 64, one has no ``src``, or is too long.
    """
    if isinstance(icons, str | bytes | Mapping):
        raise InvalidOptions(f"icons must be a list of images, got {icons!r}")
    checked = tuple(_check_icon(icon) for icon in icons)
    if len(checked) > MAX_ICONS:
        raise InvalidOptions(f"at most {MAX_ICONS} icons, got {len(checked)}")
    return checked


def _check_icon(icon: ImageResource | Mapping[str, str]) -> ImageResource:
    if not isinstance(icon, ImageResource):
        try:
            icon = ImageResource.model_validate(icon)
        except ValidationError as error:
            raise InvalidOptions(f"an icon needs a src, got {icon!r}") from error
    if len(icon.src) > MAX_ICON_BYTES:
        raise InvalidOptions(f"an icon's src has at most {MAX_ICON_BYTES} bytes")
    return icon


def _check_total(total: int) -> int:
    # WebIDL would wrap what does not fit; refusing is the safe reading (BF-IDL-05).
    if isinstance(total, bool) or not isinstance(total, int):
        raise InvalidOptions(f"download_total must be whole bytes, got {total!r}")
    if not 0 <= total < 2**64:
        raise InvalidOptions(f"download_total must be in 0 … 2**64-1, got {total}")
    return total


def _check_hold(hold: timedelta) -> timedelta:
    if not isinstance(hold, timedelta) or hold < timedelta(0):
        raise InvalidOptions(f"hold must be a timedelta, not negative, got {hold!r}")
    return hold
