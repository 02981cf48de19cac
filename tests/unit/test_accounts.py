"""The gateway's accounts: their file, what proves them, what they may do."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.accounts import (
    Account,
    Accounts,
    Role,
    entry,
    new_token,
    password_proof,
    token_proof,
)
from schemas.errors import ConfigError


def written(tmp_path: Path, text: str) -> Path:
    """A file with this text."""
    path = tmp_path / "accounts.toml"
    path.write_text(text)
    return path


def test_a_token_and_a_password_prove_the_accounts_they_were_made_for(
    tmp_path: Path,
) -> None:
    token = new_token()
    ci = Account(
        "ci", frozenset({Role.PRODUCER}), ("podcasts", "news-*"), token_proof(token)
    )
    ada = Account(
        "ada@example.com", frozenset({Role.OPERATOR}), proof=password_proof("pä:ss")
    )
    path = written(tmp_path, f"{entry(ci)}\n\n{entry(ada)}\n")

    accounts = Accounts.load(path)

    assert accounts.of_token(token) == ci
    assert accounts.of_token(token + "x") is None
    assert accounts.of_password("ada@example.com", "pä:ss") == ada
    assert accounts.of_password("ada@example.com", "pass") is None
    assert accounts.of_password("ci", token) is None
    assert accounts.of_password("nobody", "pä:ss") is None
    assert token not in path.read_text()


@pytest.mark.parametrize(
    ("role", "may"),
    [
        (Role.VIEWER, {Role.VIEWER}),
        (Role.PRODUCER, {Role.VIEWER, Role.PRODUCER}),
        (Role.SUBSCRIBER, {Role.VIEWER, Role.SUBSCRIBER}),
        (Role.OPERATOR, set(Role)),
    ],
)
def test_every_role_may_look_and_the_operator_everything(
    role: Role, may: set[Role]
) -> None:
    account = Account("a", frozenset({role}))

    assert {each for each in Role if account.may(each, "podcasts")} == may


def test_an_account_of_some_scopes_may_do_nothing_in_others_or_in_all() -> None:
    account = Account("a", frozenset({Role.OPERATOR}), ("podcasts", "news-*"))

    assert account.may(Role.VIEWER, "podcasts")
    assert account.may(Role.VIEWER, "news-de")
    assert not account.may(Role.VIEWER, "newsletters")
    assert not account.may(Role.VIEWER, "Podcasts")
    assert not account.may(Role.VIEWER, None)


PROOF = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "names no account"),
        ("[ci", "accounts.toml"),
        ("ci = 1", "'ci' has to be a table"),
        (f'[ci]\ntoken = "{PROOF}"', "[ci] roles has to be a list"),
        (f'[ci]\ntoken = "{PROOF}"\nroles = "viewer"', "got 'viewer'"),
        (f'[ci]\ntoken = "{PROOF}"\nroles = ["admin"]', "'admin' is none of viewer"),
        (f'[ci]\ntoken = "{PROOF}"\nroles = ["viewer"]\nscope = "a"', "'scope'"),
        (f'[ci]\ntoken = "{PROOF}"\nroles = ["viewer"]\nscopes = ["a/b"]', "'a/b'"),
        ('[ci]\nroles = ["viewer"]', "either a token or a password"),
        ('[ci]\ntoken = "s3cret"\nroles = ["viewer"]', "token is no proof"),
        (f'["a b"]\ntoken = "{PROOF}"\nroles = ["viewer"]', "'a b' is no name"),
    ],
)
def test_what_is_wrong_in_the_file_is_told_and_no_proof_with_it(
    tmp_path: Path, text: str, told: str
) -> None:
    with pytest.raises(ConfigError) as error:
        Accounts.load(written(tmp_path, text))

    assert told in str(error.value)
    assert "s3cret" not in str(error.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        Accounts.load(tmp_path / "nowhere")
