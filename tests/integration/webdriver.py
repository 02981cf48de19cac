"""The command of WebDriver in tests."""

from __future__ import annotations

from urllib.parse import quote

from httpx2 import Response


def clicked(session: str, id: str) -> str:
    """The address of WebDriver's command."""
    return f"/session/{session}/backgroundfetch/{quote(id, safe='')}/click"


def of_webdriver(answer: Response) -> tuple[int, str]:
    """Status and error of a command that failed."""
    error: str = answer.json()["value"]["error"]
    return answer.status_code, error
