# SPDX-License-Identifier: Apache-2.0
"""Worker methods for rpc.py (worker_extension_cls="rpc_ext.Ext")."""
class Ext:
    def noop(self):
        return None

    def echo(self, b):
        return len(b)
