"""Serving a trio elsewhere: as one model of vLLM, and in transformers without this package.

`plugin`, `served_config`, `requests`, `alphas` and `served_model` run inside vLLM; `export` and
`hub` write the folders.
"""
