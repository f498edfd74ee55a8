"""The web page: five server-rendered views that ask only the public queries.

A framework knows this package by two names: `Page.answer` turns an `Ask` (path, query, cookies) into a `Reply`
(status, headers, body). Nothing here opens a socket, checks a token or writes.

========== ====================================================================================
page       routes, languages and zones, rendering, assets
views      what the views share, the lists and one execution: from documents to what the templates show
one_job    the view of one job
timeline   the view of many jobs in time
charts     strips, bars, dots and lanes: numbers to SVG geometry
links      relative addresses that carry the state of a view
phrases    words, numbers and times in English and Chinese
========== ====================================================================================
"""
