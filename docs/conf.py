"""How sphinx reads these pages:  sphinx-build -W docs docs/_build"""

project = "mpcache"
author = "mpcache authors"
html_theme = "furo"
exclude_patterns = ["_build"]
