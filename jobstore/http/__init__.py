"""The HTTP interface, module by module.

========== =======================================================================
app        the falcon application; `jobstore.wsgi.create_app`
routes     the table of paths and queries; the paths that need no token
hosts      the host names the server answers to
gate       authentication, before routing
request    strict decoding of the path and the query string
reply      a document's bytes: size limit, ETag, 304, gzip, Link
faults     errors as the job API's envelope
cors       cross-origin access for the origins the operator names
journal    request ids and the access log
tokens     bearer tokens; `tokenfile` stores them on disk
session    the sign-in cookie of the web page
pages      the web page as falcon resources
openapi    the OpenAPI document
serve      the waitress server behind `jobstore serve`
client     `jobstore.connect`: the queries over HTTP
========== =======================================================================
"""
