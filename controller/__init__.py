"""The daemon and the tools: everything that decides, talks to switches or prints."""
