"""One distribution: the core and the plugins that ship with it."""

from setuptools import find_packages, setup

PLUGINS = {"jmapplug_imap": "plugins/imap/jmapplug_imap"}


def packages() -> list[str]:
    found: list[str] = find_packages(".", include=["jmapplug", "jmapplug.*"])
    for name, folder in PLUGINS.items():
        found += [name, *(f"{name}.{sub}" for sub in find_packages(folder))]
    return found


setup(
    name="jmapplug",
    version="0.1.0",
    description="JMAP in front of any IMAP server",
    python_requires=">=3.11",
    packages=packages(),
    package_dir=PLUGINS,
    package_data={"": ["*.sql", "*.html", "*.css", "*.js", "py.typed"]},
    install_requires=[
        "gevent>=25.4,<27",
        "flask>=3.1,<4",
        "pluggy>=1.5,<2",
        "msgspec>=0.19,<1",
        "apsw>=3.50,<4",
        "cryptography>=44",
        "dataset>=2.0,<3",
        "dnspython>=2.7,<3",
        "selectolax>=0.3.29,<2",
        "prometheus-client>=0.21,<1",
        "click>=8.1,<9",
        "zstandard>=0.23,<1",
        "wsproto>=1.3,<2",
        "tzdata",
    ],
    extras_require={
        "gunicorn": ["gunicorn[gevent]>=23,<28"],
        "demo": ["pymap>=0.36,<0.37", "aiosmtpd>=1.4.6,<2"],
        "test": [
            "pytest>=8.3,<10",
            "pytest-xdist>=3.6,<4",
            "hypothesis>=6.120,<7",
            "http-ece>=1.2,<2",
            "aiosmtpd>=1.4.6,<2",
            "requests>=2.32,<3",
            "websockets>=15,<18",
            "mypy>=1.15,<3",
            "ruff>=0.9,<1",
            "types-requests",
        ],
    },
    entry_points={
        "console_scripts": ["jmapplug = jmapplug.cli:main"],
        "jmapplug": ["imap = jmapplug_imap"],
    },
)
