"""Tokens of the HTTP API, under the name that programs import: `load` follows a token file, `create` adds to one."""

from jobstore.http.tokens import TokenFile, TokenRecord, TokenTable, create, list_, load, revoke

__all__ = ["TokenFile", "TokenRecord", "TokenTable", "create", "list_", "load", "revoke"]
