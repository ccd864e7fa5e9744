"""Every setting of Pictor, read from the environment or `.env`; docs/configuration.md describes each one."""

import os
import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from project import openapi
from project.databases import with_options
from project.environment import Environment, read_dotenv
from project.logs import logging_settings
from project.secrets import make_private, read_or_create
from project.static_headers import add_security_headers
from project.theme import UNFOLD  # noqa: F401  Django looks for it here

BASE_DIR = Path(__file__).resolve().parent.parent
read_dotenv(BASE_DIR / ".env")
env = Environment()

# --- Places -----------------------------------------------------------------------------------------------

DATA_DIR = (BASE_DIR / env.str("PICTOR_DATA_DIR", default="var")).resolve()  # the same from every folder
CREDENTIALS_DIR = DATA_DIR / "credentials"
make_private(DATA_DIR)

# --- Web --------------------------------------------------------------------------------------------------

DEBUG = env.bool("PICTOR_DEBUG", default=False)
SECRET_KEY = env.str("PICTOR_SECRET_KEY", default="") or read_or_create(CREDENTIALS_DIR / "secret_key")
HOST = env.str("PICTOR_HOST", default="127.0.0.1")
PORT = env.port("PICTOR_PORT", default=8000)
WEB_PROCESSES = env.count("PICTOR_WEB_PROCESSES", default=1)
ALLOWED_HOSTS = env.list("PICTOR_ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_FAILURE_VIEW = "api.errors.csrf_failure"
FAL_HOST = env.str("PICTOR_FAL_HOST", default="")  # with its port unless that is 443
FAL_RUN_HOST = env.str("PICTOR_FAL_RUN_HOST", default="")
ALLOWED_HOSTS += [urlsplit(f"//{host}").hostname for host in (FAL_HOST, FAL_RUN_HOST) if host]
CSRF_TRUSTED_ORIGINS = env.list("PICTOR_CSRF_TRUSTED_ORIGINS", default=[])
MAX_BODY_BYTES = DATA_UPLOAD_MAX_MEMORY_SIZE = env.count("PICTOR_MAX_BODY_BYTES", default=1024 * 1024)
MAX_UPLOAD_BYTES = env.count("PICTOR_MAX_UPLOAD_BYTES", default=32 * 1024 * 1024)

# One switch for the production profile: behind TLS, cookies and redirects must insist on it.
HTTPS = env.bool("PICTOR_HTTPS", default=False)
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_REDIRECT_EXEMPT = [r"^health/"]
X_FRAME_OPTIONS = "DENY"

ROOT_URLCONF = "project.urls"
ASGI_APPLICATION = "project.asgi.application"
LOGIN_URL = "rest_framework:login"
LOGIN_REDIRECT_URL = "/api/"
LOGOUT_REDIRECT_URL = "/api/auth/login/"
STATIC_URL = "static/"
SERVESTATIC_USE_FINDERS = True  # straight from the installed packages: no collectstatic step to forget
SERVESTATIC_ADD_HEADERS_FUNCTION = add_security_headers

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_filters",
    "api",  # before rest_framework, whose templates it extends
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "knox",
    "generation",
    "project",
]

MIDDLEWARE = [
    "servestatic.middleware.ServeStaticMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "api.rate_limits.rate_limit_headers",
    "api.edges.problem_details",
    "project.middleware.in_one_thread",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "api.authentication.ApiKeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": [
        "rest_framework.permissions.IsAuthenticated",
        "api.authentication.HasScope",
    ],
    "DEFAULT_THROTTLE_CLASSES": ["api.throttles.RequestsPerMinute"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer", "api.renderers.PageRenderer"],
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "api.openapi.OperationSchema",
    "EXCEPTION_HANDLER": "drf_standardized_errors.handler.exception_handler",
    "VIEW_NAME_FUNCTION": "api.titles.title_of",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = openapi.SETTINGS
DRF_STANDARDIZED_ERRORS = {
    "EXCEPTION_HANDLER_CLASS": "api.errors.ProblemHandler",
    "EXCEPTION_FORMATTER_CLASS": "api.errors.ProblemFormatter",
}
KNOX_TOKEN_MODEL = "api.ApiKey"
MIGRATION_MODULES = {"knox": None}  # ApiKey stands in for its table, which its migrations would create all the same
REST_KNOX = {"AUTH_HEADER_PREFIX": "Bearer", "TOKEN_PREFIX": "pictor_", "TOKEN_TTL": None}

# --- Database ---------------------------------------------------------------------------------------------

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": with_options(
        env.db_url("DATABASE_URL", default=f"sqlite:///{quote(str(DATA_DIR / 'db.sqlite3'))}"), base_dir=BASE_DIR
    )
}
if "PICTOR_DEVICE" in os.environ:
    # A worker's threads outlive their tasks, so their connections may too; a request has a thread of its own.
    DATABASES["default"] |= {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}
USE_TZ = True
TIME_ZONE = env.zone("PICTOR_TIME_ZONE", default="UTC")

# --- Broker and Celery ------------------------------------------------------------------------------------

# A Unix socket path holds at most 107 bytes, so a deep folder gets a short private one beside it in /tmp.
EMBEDDED_REDIS_SOCKET = DATA_DIR / "redis" / "redis.sock"
if len(str(EMBEDDED_REDIS_SOCKET)) > 100:
    _digest = sha256(str(DATA_DIR).encode()).hexdigest()[:16]
    EMBEDDED_REDIS_SOCKET = Path(tempfile.gettempdir()) / f"pictor-{_digest}" / "redis.sock"

REDIS_URL = env.redis_url("REDIS_URL", default="")
_OWN_REDIS = f"redis+socket://{EMBEDDED_REDIS_SOCKET}"
BROKER_URL = env.broker_url("BROKER_URL", default="") or REDIS_URL or _OWN_REDIS
EVENTS_URL = REDIS_URL or (_OWN_REDIS if BROKER_URL.startswith("amqp") else BROKER_URL)  # RabbitMQ cannot carry them
BROKER_PREFIX = env.str("PICTOR_BROKER_PREFIX", default="pictor:")
BROKER_TIMEOUT_SECONDS = env.seconds("PICTOR_BROKER_TIMEOUT_SECONDS", default=5)

CELERY_BROKER_URL = BROKER_URL
CELERY_TASK_ACKS_LATE = CELERY_TASK_ACKS_ON_FAILURE = CELERY_TASK_ACKS_ON_TIMEOUT = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_max": 0.2}
CELERY_TASK_SERIALIZER = CELERY_RESULT_SERIALIZER = CELERY_EVENT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_DB_REUSE_MAX = sys.maxsize  # or Celery closes connections around each task: `tasks` does it as Django would
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_POOL = "threads"
CELERY_WORKER_CONSUMER = "project.consumer:Consumer"
CELERY_WORKER_SEND_TASK_EVENTS = True
CELERY_WORKER_REDIRECT_STDOUTS = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
if BROKER_URL.startswith("amqp"):
    CELERY_TASK_DEFAULT_QUEUE_TYPE = CELERY_TASK_CREATE_MISSING_QUEUE_TYPE = "quorum"
    CELERY_TASK_DEFAULT_EXCHANGE_TYPE = "topic"
    CELERY_BROKER_HEARTBEAT = 10
    # An alarm makes RabbitMQ stop reading and confirming; without time limits a request would wait until it is over.
    CELERY_BROKER_CONNECTION_TIMEOUT = 2
    CELERY_TASK_ROUTES = {"*": {"confirm_timeout": BROKER_TIMEOUT_SECONDS}}  # an option of each publish only
    CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = {
        "confirm_publish": True,
        "read_timeout": BROKER_TIMEOUT_SECONDS,
        "write_timeout": BROKER_TIMEOUT_SECONDS,
    }
else:
    # Without socket timeouts a half-open connection hangs a worker or a request for ever.
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "global_keyprefix": BROKER_PREFIX,
        "visibility_timeout": 1800,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "socket_timeout": BROKER_TIMEOUT_SECONDS,
        "socket_connect_timeout": min(2, BROKER_TIMEOUT_SECONDS / 2),
        "socket_keepalive": True,
        "health_check_interval": 5,
    }

# --- Generations ------------------------------------------------------------------------------------------

MAX_PROMPT_LENGTH = env.count("PICTOR_MAX_PROMPT_LENGTH", default=2000)
MAX_WAITING = env.limit("PICTOR_MAX_WAITING", default=50_000)
MAX_WAITING_PER_USER = env.limit("PICTOR_MAX_WAITING_PER_USER", default=1000)
MAX_UNFINISHED_PER_USER = env.limit("PICTOR_MAX_UNFINISHED_PER_USER", default=0)
MAX_RUNNING_PER_USER = env.limit("PICTOR_MAX_RUNNING_PER_USER", default=0)
MAX_EVENT_STREAMS_PER_USER = env.limit("PICTOR_MAX_EVENT_STREAMS_PER_USER", default=0)
MAX_PIXEL_STEPS_PER_DAY = env.limit("PICTOR_MAX_PIXEL_STEPS_PER_DAY", default=0)
MAX_REQUESTS_PER_MINUTE = env.limit("PICTOR_MAX_REQUESTS_PER_MINUTE", default=0)
LEASE_SECONDS = env.seconds("PICTOR_LEASE_SECONDS", default=15)
BEAT_SECONDS = env.seconds("PICTOR_BEAT_SECONDS", default=1)
if BEAT_SECONDS >= LEASE_SECONDS:
    raise ImproperlyConfigured(
        f"PICTOR_BEAT_SECONDS ({BEAT_SECONDS:g}) must be less than PICTOR_LEASE_SECONDS ({LEASE_SECONDS:g}): "
        "a lease that is never renewed in time loses every generation."
    )
SWEEP_SECONDS = env.seconds("PICTOR_SWEEP_SECONDS", default=1)
REDISPATCH_SECONDS = env.seconds("PICTOR_REDISPATCH_SECONDS", default=10)
LONGEST_WAIT_SECONDS = env.seconds("PICTOR_LONGEST_WAIT_SECONDS", default=600)
MAX_ATTEMPTS = env.count("PICTOR_MAX_ATTEMPTS", default=3)
DEVICES = env.str("PICTOR_DEVICES", default="auto")
GPU_SLOTS = env.count("PICTOR_GPU_SLOTS", default=24)
CPU_SLOTS = env.count("PICTOR_CPU_SLOTS", default=4)
COMPILE = env.bool("PICTOR_COMPILE", default=True)
RUNTIME = env.runtimes("PICTOR_RUNTIME")
RUNTIME_ADDRESS = env.str("PICTOR_RUNTIME_ADDRESS", default="")
RUNTIME_TOKEN = env.str("PICTOR_RUNTIME_TOKEN", default="")
ENGINE = env.str("PICTOR_ENGINE", default="generation.engines.engine:Engine")
HANG_SECONDS = env.seconds("PICTOR_HANG_SECONDS", default=600)
SAVE_SECONDS = env.interval("PICTOR_SAVE_SECONDS", default=5)
GATEWAY_UPSTREAMS = env.upstreams("PICTOR_GATEWAY_UPSTREAMS")
GATEWAY_API_KEY = env.str("PICTOR_GATEWAY_API_KEY", default="")
PREVIEWS = env.bool("PICTOR_PREVIEWS", default=True)
ENGINE_DIR = DATA_DIR / "engine"
MAX_INPUT_BYTES = env.count("PICTOR_MAX_INPUT_BYTES", default=10 * 1024 * 1024)
MAX_INPUT_PIXELS = env.count("PICTOR_MAX_INPUT_PIXELS", default=40_000_000)
INPUT_SECONDS = env.seconds("PICTOR_INPUT_SECONDS", default=24 * 3600)
# The functions that put a webhook in the words of another service: the domain does not know them.
WEBHOOK_DIALECTS = {name: f"api.dialects.{name}.views.tell" for name in ("replicate", "fal")}
WEBHOOK_SIGNERS = {"fal": "api.dialects.fal.signature.headers_of"}
WEBHOOKS_MAY_BE_PRIVATE = env.bool("PICTOR_WEBHOOKS_MAY_BE_PRIVATE", default=False)

# --- Images -----------------------------------------------------------------------------------------------

S3_BUCKET = env.str("PICTOR_S3_BUCKET", default="")
IMAGE_DELIVERY = env.choice("PICTOR_IMAGE_DELIVERY", default="stream", options=("stream", "redirect"))
RETENTION_DAYS = env.days("PICTOR_RETENTION_DAYS", default=0)
RETENTION_REMOVES = env.choice("PICTOR_RETENTION_REMOVES", default="everything", options=("everything", "images"))
MEDIA_ROOT = DATA_DIR / "media"
STORAGES: dict[str, dict[str, Any]] = {
    # Names are unique per attempt: a save that is tried again must not get another name, here or in S3.
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"allow_overwrite": True}},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
if S3_BUCKET:
    from botocore.config import Config  # a heavy import, for those who use it

    STORAGES["default"] = {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            "bucket_name": S3_BUCKET,
            "endpoint_url": env.str("PICTOR_S3_ENDPOINT_URL", default="") or None,
            "region_name": env.str("PICTOR_S3_REGION", default="us-east-1"),
            "access_key": env.str("PICTOR_S3_ACCESS_KEY_ID", default="") or None,
            "secret_key": env.str("PICTOR_S3_SECRET_ACCESS_KEY", default="") or None,
            "querystring_expire": env.count("PICTOR_S3_URL_SECONDS", default=300),
            "default_acl": None,
            "file_overwrite": True,
            # With it django-storages ignores its own options for these. The defaults wait 60 s, five times.
            "client_config": Config(
                connect_timeout=3,
                read_timeout=20,
                retries={"max_attempts": 2},
                signature_version="s3v4",  # version 2, the default for links, is refused by many servers
                s3={
                    "addressing_style": env.choice(
                        "PICTOR_S3_ADDRESSING_STYLE", default="auto", options=("auto", "path", "virtual")
                    )
                },
            ),
        },
    }

# --- Flower and logs --------------------------------------------------------------------------------------

FLOWER_PORT = env.port("PICTOR_FLOWER_PORT", default=5555)
LOG_LEVEL = env.choice("PICTOR_LOG_LEVEL", default="INFO", options=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
LOGGING = logging_settings(LOG_LEVEL)
