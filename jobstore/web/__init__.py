"""The web page: five server-rendered views that use only the public queries.

The package knows no framework: `Page.answer` turns an `Ask` (path, query, cookies) into a `Reply` (status, headers,
body). Nothing here opens a socket, checks a token or writes to the store.

========== ====================================================================================
page       routes, language and time zone, rendering, assets
views      the two lists and one execution: from documents to template data
one_job    the view of one job
timeline   the view of many jobs over time
charts     SVG geometry of the charts
links      relative links that keep the state of a view
phrases    words, numbers and times in English and Chinese
========== ====================================================================================
"""
