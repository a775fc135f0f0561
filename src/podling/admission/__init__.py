"""Kubernetes' built-in admission plugins: what is filled in or refused between the decoded request and the store.

Each plugin is a small class or function over a `Write`; `plugins.builtin` puts them in Kubernetes' own order
(`pkg/kubeapiserver/options/plugins.go`, AllOrderedPlugins).
"""
