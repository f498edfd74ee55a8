"""The HTTP door, room by room.

========== =======================================================================
routes     which path asks which query; what is open to all
gate       who may come in, judged before anything else
request    words from outside: the path and the query string, decoded strictly
reply      a document's bytes: bound, ETag, 304, gzip, Link
faults     errors as the seed's envelope
cors       other origins, where the operator names them
journal    request ids and the access log
app        puts them together on falcon; `jobstore.wsgi.create_app`
========== =======================================================================
"""
