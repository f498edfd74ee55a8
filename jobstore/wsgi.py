"""The job API as a WSGI application, for gunicorn, granian, waitress, or another application to mount.

::

    # app.py; then: gunicorn app:application
    from jobstore.wsgi import create_app

    application = create_app("jobs.db", tokens={"s3cret": {"read:jobs"}})
"""

from jobstore.language.extras import missing

try:
    from jobstore.http.app import create_app
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] == "jobstore":
        raise
    raise missing("jobstore.wsgi", "http") from error

__all__ = ["create_app"]
