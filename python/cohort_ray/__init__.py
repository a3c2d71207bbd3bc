# SPDX-License-Identifier: Apache-2.0
"""What Cohort runs inside Ray: a sidecar that is the only Ray driver, and its actors.

No rule is here: src/executor/ray.c decides, this asks the cluster and carries out.
"""
