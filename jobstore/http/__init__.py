"""The HTTP interface, module by module.

========== =======================================================================
routes     which path asks which query; what is open to all
gate       authentication, before anything else
request    the path and the query string, decoded strictly
reply      a document's bytes: bound, ETag, 304, gzip, Link
faults     errors as the job API's envelope
cors       other origins, where the operator names them
journal    request ids and the access log
app        the falcon application; `jobstore.wsgi.create_app`
========== =======================================================================
"""
