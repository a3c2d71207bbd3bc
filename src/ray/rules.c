/* SPDX-License-Identifier: Apache-2.0 */
#include "ray/rules.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/fail.h"

/* ---- resources ---------------------------------------------------------------- */

cohort_status cohort_ray_parse_demand(const char *text, cohort_ray_demand *out_demand) {
    size_t length = strcspn(text, "=");
    char *end = NULL;
    if (!length || length >= sizeof out_demand->key)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "resource '%.80s': write KEY or KEY=AMOUNT, as GPU=0.5", text);
    memcpy(out_demand->key, text, length);
    out_demand->key[length] = '\0';
    out_demand->amount = 1;
    if (!text[length]) return COHORT_OK;
    const char *number = text + length + 1;
    double amount = strtod(number, &end);
    if (end == number || *end || !isfinite(amount) || amount < 0.0001 || amount > 1e6)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "resource '%.80s': the amount is a number from 0.0001 on",
                           text);
    if (amount > 1 && amount != floor(amount))
        return COHORT_FAIL(COHORT_E_INVALID,
                           "resource '%.80s': above 1, Ray takes whole numbers only",
                           text);
    out_demand->amount = amount;
    return COHORT_OK;
}

static const char *const strategy_names[] = {"PACK", "STRICT_PACK", "SPREAD",
                                             "STRICT_SPREAD"};

cohort_status cohort_ray_parse_strategy(const char *text,
                                        cohort_ray_strategy *out_strategy) {
    for (int i = 0; i < 4; i++)
        if (!strcasecmp(text, strategy_names[i])) {
            *out_strategy = (cohort_ray_strategy)i;
            return COHORT_OK;
        }
    return COHORT_FAIL(COHORT_E_INVALID,
                       "placement strategy '%.40s': use PACK, STRICT_PACK, SPREAD or "
                       "STRICT_SPREAD",
                       text);
}

const char *cohort_ray_strategy_name(cohort_ray_strategy strategy) {
    return strategy_names[strategy];
}

/* ---- bundles ------------------------------------------------------------------ */

/* Ray counts in ten-thousandths. */
static bool holds(const cohort_ray_bundle *bundle, const cohort_ray_demand *demand) {
    return bundle->amount + 0.00005 >= demand->amount;
}

/* -1, 0, 1: driver's node first, then node ids in byte order. */
static int compare_nodes(const char *a, const char *b, const char *driver_node) {
    bool a_is_driver = !strcmp(a, driver_node);
    bool b_is_driver = !strcmp(b, driver_node);
    if (a_is_driver != b_is_driver) return a_is_driver ? -1 : 1;
    return strcmp(a, b);
}

cohort_status cohort_ray_order_bundles(const cohort_ray_bundle *bundles,
                                       int32_t n_bundles, const cohort_ray_demand *demand,
                                       const char *driver_node, int32_t world_size,
                                       int32_t *out_positions) {
    int32_t n = 0;
    for (int32_t i = 0; i < n_bundles; i++) {
        if (!holds(&bundles[i], demand)) continue;
        /* Insertion keeps equals in their order; the last falls out when there are more
         * than ranks. */
        int32_t at = n;
        while (at > 0 &&
               compare_nodes(bundles[i].node_id, bundles[out_positions[at - 1]].node_id,
                             driver_node) < 0)
            at--;
        if (at == world_size) continue;
        if (n < world_size) n++;
        memmove(out_positions + at + 1, out_positions + at,
                sizeof *out_positions * (size_t)(n - at - 1));
        out_positions[at] = i;
    }
    if (n == world_size) return COHORT_OK;
    return COHORT_FAIL(COHORT_E_INVALID,
                       "the placement group has %d bundles with %g %s, and %d ranks need "
                       "one each: use a larger group or fewer ranks",
                       n, demand->amount, demand->key, world_size);
}

static int32_t find_bundle(const cohort_ray_bundle *bundles, int32_t n_bundles,
                           long index) {
    for (int32_t i = 0; i < n_bundles; i++)
        if (bundles[i].index == index) return i;
    return -1;
}

/* Positions of the numbers in text: at most most of them are written, all are counted. */
static cohort_status read_indices(const char *text, const cohort_ray_bundle *bundles,
                                  int32_t n_bundles, int32_t most, int32_t *out_positions,
                                  int32_t *out_n) {
    const char *next = text;
    for (int32_t n = 0;;) {
        char *end = NULL;
        long index = strtol(next, &end, 10);
        bool is_number = end != next && isdigit((unsigned char)end[-1]);
        while (is_number && *end == ' ')
            end++;
        if (!is_number || (*end && *end != ','))
            return COHORT_FAIL(COHORT_E_INVALID,
                               "bundle indices '%.80s': write numbers with commas, as "
                               "0,1",
                               text);
        int32_t at = find_bundle(bundles, n_bundles, index);
        if (at < 0)
            return COHORT_FAIL(COHORT_E_INVALID,
                               "bundle index %ld: the placement group has %d bundles, "
                               "numbered from 0",
                               index, n_bundles);
        if (n < most) out_positions[n] = at;
        *out_n = ++n;
        if (!*end) return COHORT_OK;
        next = end + 1;
    }
}

cohort_status cohort_ray_name_bundles(const char *indices,
                                      const cohort_ray_bundle *bundles, int32_t n_bundles,
                                      const cohort_ray_demand *demand, int32_t world_size,
                                      int32_t *out_positions) {
    int32_t n = 0;
    COHORT_TRY(read_indices(indices, bundles, n_bundles, world_size, out_positions, &n));
    if (n != world_size)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "bundle indices must have the same size as the world: '%.80s' "
                           "names %d bundles for %d ranks",
                           indices, n, world_size);
    for (int32_t i = 0; i < n; i++)
        for (int32_t j = 0; j < i; j++)
            if (out_positions[i] == out_positions[j])
                return COHORT_FAIL(COHORT_E_INVALID,
                                   "bundle indices cannot have duplicate values, and "
                                   "'%.80s' has %d twice",
                                   indices, bundles[out_positions[i]].index);
    for (int32_t i = 0; i < n; i++)
        if (!holds(&bundles[out_positions[i]], demand))
            return COHORT_FAIL(COHORT_E_INVALID,
                               "bundle %d holds %g %s, and rank %d needs %g: name "
                               "another bundle",
                               bundles[out_positions[i]].index,
                               bundles[out_positions[i]].amount, demand->key, i,
                               demand->amount);
    return COHORT_OK;
}

cohort_status cohort_ray_pick_room(const cohort_ray_bundle *rooms, int32_t n_rooms,
                                   const cohort_ray_demand *demand, const char *lost_node,
                                   const char *driver_node, int32_t *out_position) {
    int32_t best = -1;
    double most = 0;
    for (int32_t i = 0; i < n_rooms; i++) {
        const cohort_ray_bundle *room = &rooms[i];
        if (room->amount > most) most = room->amount;
        if (!holds(room, demand) || !strcmp(room->node_id, lost_node)) continue;
        if (best < 0 || !strcmp(room->node_id, driver_node) ||
            (strcmp(rooms[best].node_id, driver_node) != 0 &&
             room->amount > rooms[best].amount))
            best = i;
    }
    *out_position = best;
    if (best >= 0) return COHORT_OK;
    return COHORT_FAIL(
        COHORT_E_INVALID,
        "its node is lost, and no other has room for it: %g %s are wanted, "
        "and of %d nodes none has more than %g free",
        demand->amount, demand->key, n_rooms, most);
}

cohort_status cohort_ray_leave_held(const char *held, const cohort_ray_demand *demand,
                                    cohort_ray_bundle *bundles, int32_t n_bundles) {
    for (const char *next = held ? held : ""; *next;) {
        char key[sizeof demand->key];
        int index, used = 0;
        double amount;
        if (sscanf(next, "%63[^/=,]/%d=%lf%n", key, &index, &amount, &used) != 3 ||
            !(amount >= 0) || (next[used] && next[used] != ','))
            return COHORT_FAIL(
                COHORT_E_INVALID,
                "COHORT_RAY_HELD '%.80s': write RESOURCE/BUNDLE=AMOUNT with "
                "commas, as CPU/0=1",
                held);
        int32_t at = find_bundle(bundles, n_bundles, index);
        if (at >= 0 && !strcmp(key, demand->key)) bundles[at].amount -= amount;
        next += used + (next[used] == ',');
    }
    return COHORT_OK;
}

static const char *value_of(char *const *environment, const char *name) {
    size_t length = strlen(name);
    for (char *const *entry = environment; *entry; entry++)
        if (!strncmp(*entry, name, length) && (*entry)[length] == '=')
            return (*entry)[length + 1] ? *entry + length + 1 : NULL;
    return NULL;
}

const char *cohort_ray_bundle_indices(char *const *environment) {
    const char *own = value_of(environment, "COHORT_RAY_BUNDLE_INDICES");
    return own ? own : value_of(environment, "VLLM_RAY_BUNDLE_INDICES");
}

/* ---- seats -------------------------------------------------------------------- */

void cohort_ray_number_seats(cohort_ray_seat *seats, int32_t n_seats) {
    for (int32_t i = 0; i < n_seats; i++) {
        cohort_ray_seat *seat = &seats[i];
        seat->local_rank = seat->local_world_size = 0;
        for (int32_t j = 0; j < n_seats; j++) {
            if (strcmp(seats[j].node_id, seat->node_id) != 0) continue;
            seat->local_rank += j < i;
            seat->local_world_size++;
        }
    }
}

int32_t cohort_ray_count_nodes(const cohort_ray_seat *seats, int32_t n_seats) {
    int32_t n = 0;
    for (int32_t i = 0; i < n_seats; i++) {
        bool is_first = true;
        for (int32_t j = 0; is_first && j < i; j++)
            is_first = strcmp(seats[j].node_id, seats[i].node_id) != 0;
        n += is_first;
    }
    return n;
}

static bool is_number(const char *text) {
    return *text && strspn(text, "0123456789") == strlen(text);
}

/* Numbers by value ("2" before "10", #5590), then names in byte order.  Of numbers
 * without leading zeros the shorter is the smaller. */
static int compare_devices(const char *a, const char *b) {
    bool a_is_number = is_number(a);
    if (a_is_number != is_number(b)) return a_is_number ? -1 : 1;
    while (a_is_number && *a == '0' && a[1])
        a++;
    while (a_is_number && *b == '0' && b[1])
        b++;
    size_t a_length = strlen(a);
    size_t b_length = strlen(b);
    if (a_is_number && a_length != b_length) return a_length < b_length ? -1 : 1;
    return strcmp(a, b);
}

/* The devices of a rank's node, each once, in order; -1: more than there is room for. */
static int32_t gather_devices(const cohort_ray_seat *seats, int32_t n_seats, int32_t rank,
                              const char **out_ids) {
    int32_t n = 0;
    for (int32_t i = 0; i < n_seats; i++) {
        if (strcmp(seats[i].node_id, seats[rank].node_id) != 0) continue;
        for (int32_t k = 0; k < seats[i].n_devices; k++) {
            const char *id = seats[i].device_ids[k];
            int32_t at = 0;
            while (at < n && compare_devices(out_ids[at], id) < 0)
                at++;
            if (at < n && !compare_devices(out_ids[at], id)) continue;
            if (n == COHORT_RAY_MAX_DEVICES) return -1;
            memmove(out_ids + at + 1, out_ids + at, sizeof *out_ids * (size_t)(n - at));
            out_ids[at] = id;
            n++;
        }
    }
    return n;
}

cohort_status cohort_ray_device_map(const cohort_ray_seat *seats, int32_t n_seats,
                                    int32_t rank, char *out_map, size_t size) {
    const char *ids[COHORT_RAY_MAX_DEVICES];
    int32_t n = gather_devices(seats, n_seats, rank, ids);
    size_t used = 0;
    out_map[0] = '\0';
    if (n < 0)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "more than %d devices on the node of rank %d",
                           COHORT_RAY_MAX_DEVICES, rank);
    for (int32_t i = 0; i < n; i++) {
        int added = snprintf(out_map + used, size - used, "%s%s", i ? "," : "", ids[i]);
        used += (size_t)added;
        if (used >= size)
            return COHORT_FAIL(COHORT_E_INVALID,
                               "the device ids on the node of rank %d are too long",
                               rank);
    }
    return COHORT_OK;
}

const char *cohort_ray_device_of(const cohort_ray_seat *seats, int32_t n_seats,
                                 int32_t rank) {
    const char *ids[COHORT_RAY_MAX_DEVICES];
    int32_t n = gather_devices(seats, n_seats, rank, ids);
    const cohort_ray_seat *seat = &seats[rank];
    for (int32_t i = 0; i < n; i++)
        for (int32_t k = 0; k < seat->n_devices; k++)
            if (!compare_devices(ids[i], seat->device_ids[k])) return seat->device_ids[k];
    return NULL;
}

int32_t cohort_ray_count_sharing(const cohort_ray_seat *seats, int32_t n_seats,
                                 int32_t rank) {
    const char *own = cohort_ray_device_of(seats, n_seats, rank);
    int32_t n = 0;
    for (int32_t i = 0; own && i < n_seats; i++) {
        const char *id = cohort_ray_device_of(seats, n_seats, i);
        n += !strcmp(seats[i].node_id, seats[rank].node_id) && id &&
             !compare_devices(id, own);
    }
    return n;
}

static bool share_device(const cohort_ray_seat *a, const cohort_ray_seat *b,
                         const char **out_id) {
    for (int32_t i = 0; i < a->n_devices; i++)
        for (int32_t j = 0; j < b->n_devices; j++)
            if (!compare_devices(a->device_ids[i], b->device_ids[j])) {
                *out_id = a->device_ids[i];
                return true;
            }
    return false;
}

cohort_status cohort_ray_check_placement(const cohort_ray_seat *seats, int32_t n_seats,
                                         cohort_ray_strategy strategy,
                                         const cohort_ray_demand *demand) {
    for (int32_t i = 0; i < n_seats; i++) {
        if (seats[i].bundle_node && strcmp(seats[i].node_id, seats[i].bundle_node) != 0)
            return COHORT_FAIL(
                COHORT_E_INVALID,
                "rank %d came to node %s, and its bundle %d is on node %s: "
                "is the placement group being moved?",
                i, seats[i].node_id, seats[i].bundle, seats[i].bundle_node);
        for (int32_t j = 0; j < i; j++) {
            const char *id = NULL;
            bool is_one_node = !strcmp(seats[i].node_id, seats[j].node_id);
            if (strategy == COHORT_RAY_STRICT_PACK && !is_one_node)
                return COHORT_FAIL(COHORT_E_INVALID,
                                   "ranks %d and %d came to different nodes, and "
                                   "STRICT_PACK was asked for",
                                   j, i);
            if (strategy == COHORT_RAY_STRICT_SPREAD && is_one_node)
                return COHORT_FAIL(COHORT_E_INVALID,
                                   "ranks %d and %d came to one node, and STRICT_SPREAD "
                                   "was asked for",
                                   j, i);
            if (is_one_node && demand->amount >= 1 &&
                share_device(&seats[i], &seats[j], &id))
                return COHORT_FAIL(COHORT_E_INVALID,
                                   "ranks %d and %d were both given device %.40s of %g "
                                   "%s each",
                                   j, i, id, demand->amount, demand->key);
        }
    }
    return COHORT_OK;
}

/* ---- names -------------------------------------------------------------------- */

cohort_status cohort_ray_actor_name(const cohort_ray_identity *identity, int32_t rank,
                                    int32_t life, char *out_name, size_t size) {
    char dp[16] = "";
    char tp[16] = "";
    char pp[16] = "";
    char nth[16] = "";
    if (identity->dp_rank >= 0) snprintf(dp, sizeof dp, "_DP%d", identity->dp_rank);
    if (identity->tp > 1) snprintf(tp, sizeof tp, "_TP%d", rank % identity->tp);
    if (identity->pp > 1) snprintf(pp, sizeof pp, "_PP%d", rank / identity->tp);
    if (life > 1) snprintf(nth, sizeof nth, "_L%d", life);
    int length = snprintf(out_name, size, "cohort_Worker_%s%s%s%s%s", identity->instance,
                          dp, tp, pp, nth);
    if ((size_t)length < size) return COHORT_OK;
    return COHORT_FAIL(COHORT_E_INVALID, "instance name '%.40s...' is too long",
                       identity->instance);
}

/* ---- environment -------------------------------------------------------------- */

/* A name that ends in * stands for all that begin so; one that begins with *, for all
 * that end so. */
static bool matches(const char *pattern, size_t pattern_length, const char *name) {
    size_t length = strlen(name);
    if (pattern_length && pattern[0] == '*')
        return length >= pattern_length - 1 &&
               !strncmp(name + length - (pattern_length - 1), pattern + 1,
                        pattern_length - 1);
    if (pattern_length && pattern[pattern_length - 1] == '*')
        return !strncmp(name, pattern, pattern_length - 1);
    return length == pattern_length && !strncmp(name, pattern, length);
}

static bool is_in(const char *const *patterns, const char *name) {
    for (; *patterns; patterns++)
        if (matches(*patterns, strlen(*patterns), name)) return true;
    return false;
}

static bool is_excluded(const char *excluded, const char *name) {
    while (excluded && *excluded) {
        size_t length = strcspn(excluded, ",");
        size_t skip = strspn(excluded, " ");
        size_t end = length;
        while (end > skip && excluded[end - 1] == ' ')
            end--;
        if (end > skip && matches(excluded + skip, end - skip, name)) return true;
        excluded += length;
        if (*excluded) excluded++;
    }
    return false;
}

/* R10, R11: device masks of every platform; what names this host, this rank or this
 * process; what Ray and a shell set for each process of their own. */
static const char *const staying[] = {"*_VISIBLE_DEVICES",
                                      "*_VISIBLE_CORES",
                                      "*_VISIBLE_CHIPS",
                                      "*_VISIBLE_MODULES",
                                      "*_DEVICE_ORDINAL",
                                      "ZE_AFFINITY_MASK",
                                      "ONEAPI_DEVICE_SELECTOR",
                                      "SYCL_DEVICE_FILTER",
                                      "CUDA_MPS_PIPE_DIRECTORY",
                                      "COHORT_RAY_HELD",
                                      "COHORT_DEVICE_ID",
                                      "COHORT_DEVICE_SHARED_BY",
                                      "VLLM_HOST_IP",
                                      "VLLM_HOST_PORT",
                                      "VLLM_PORT",
                                      "VLLM_LOOPBACK_IP",
                                      "VLLM_NIXL_SIDE_CHANNEL_HOST",
                                      "COHORT_HOST_IP",
                                      "LOCAL_RANK",
                                      "LOCAL_WORLD_SIZE",
                                      "RANK",
                                      "WORLD_SIZE",
                                      "GROUP_RANK",
                                      "NODE_RANK",
                                      "MASTER_ADDR",
                                      "MASTER_PORT",
                                      "VLLM_DP_RANK",
                                      "VLLM_DP_RANK_LOCAL",
                                      "OMPI_*",
                                      "PMI_*",
                                      "PMIX_*",
                                      "SLURM_*",
                                      "COHORT_PYTHON",
                                      "COHORT_WORKER",
                                      "COHORT_LIBRARY",
                                      "RAY_*",
                                      "SPT_NOENV",
                                      "PYTHONBREAKPOINT",
                                      "VIRTUAL_ENV",
                                      "VIRTUAL_ENV_PROMPT",
                                      "CONDA_*",
                                      "PWD",
                                      "OLDPWD",
                                      "SHLVL",
                                      "_",
                                      "HOME",
                                      "USER",
                                      "LOGNAME",
                                      "MAIL",
                                      "SHELL",
                                      "HOSTNAME",
                                      "TERM",
                                      "TMPDIR",
                                      "XDG_*",
                                      "DBUS_*",
                                      "SSH_*",
                                      "DISPLAY",
                                      "TTY",
                                      "PS1",
                                      "INVOCATION_ID",
                                      "JOURNAL_STREAM",
                                      "NOTIFY_SOCKET",
                                      "LISTEN_*",
                                      "KUBERNETES_*",
                                      "*_SERVICE_HOST",
                                      "*_SERVICE_PORT",
                                      NULL};

/* R8: read by the loader, the allocator or a library's constructor. */
static const char *const preceding[] = {"LD_PRELOAD",
                                        "LD_LIBRARY_PATH",
                                        "LD_BIND_NOW",
                                        "GLIBC_TUNABLES",
                                        "MALLOC_*",
                                        "OMP_*",
                                        "GOMP_*",
                                        "KMP_*",
                                        "MKL_*",
                                        "OPENBLAS_*",
                                        "ASAN_OPTIONS",
                                        "UBSAN_OPTIONS",
                                        "PYTHONHASHSEED",
                                        "CUDA_MODULE_LOADING",
                                        "CUDA_LAUNCH_BLOCKING",
                                        "VLLM_USE_BREAKABLE_CUDAGRAPH",
                                        NULL};

static const char *const path_lists[] = {"LD_PRELOAD", "LD_LIBRARY_PATH", "CUTE_DSL_LIBS",
                                         "TVM_*_PATH", "TL_*_PATH",       NULL};

cohort_ray_travel cohort_ray_travel_of(const char *name, const char *excluded) {
    if (!*name || is_in(staying, name) || is_excluded(excluded, name))
        return COHORT_RAY_STAYS;
    /* What a node's programs are found by is the node's own. */
    if (!strcmp(name, "PATH") || !strcmp(name, "PYTHONPATH")) return COHORT_RAY_STAYS;
    return is_in(preceding, name) ? COHORT_RAY_PRECEDES : COHORT_RAY_FOLLOWS;
}

bool cohort_ray_env_is_path_list(const char *name) {
    for (const char *const *list = path_lists; *list; list++) {
        const char *star = strchr(*list, '*');
        size_t before = star ? (size_t)(star - *list) : strlen(*list);
        if (strncmp(name, *list, before) != 0) continue;
        if (!star && !name[before]) return true;
        size_t after = star ? strlen(star + 1) : 0;
        size_t length = strlen(name);
        if (star && length >= before + after && !strcmp(name + length - after, star + 1))
            return true;
    }
    return false;
}

/* What the loader looks for itself cannot be looked for here: a library's bare name, and
 * its own words ($ORIGIN, $LIB). */
static bool is_path(const char *name, const char *entry) {
    if (strchr(entry, '$')) return false;
    return strcmp(name, "LD_PRELOAD") != 0 || strchr(entry, '/');
}

/* Those of list that is_there does not deny; false where none is left. */
static bool keep_paths(const char *name, const char *list,
                       bool (*is_there)(const char *path, void *user_data),
                       void *user_data, char *out_list) {
    /* LD_PRELOAD may have blanks between its entries (ld.so(8)). */
    const char *separators = strcmp(name, "LD_PRELOAD") != 0 ? ":" : ": ";
    char *end = out_list;
    while (*list) {
        size_t length = strcspn(list, separators);
        char *start = end == out_list ? end : end + 1;
        memcpy(start, list, length);
        start[length] = '\0';
        if (length && (!is_path(name, start) || is_there(start, user_data))) {
            if (start != end) *end = ':';
            end = start + length;
        }
        list += length;
        if (*list) list++;
    }
    *end = '\0';
    return end != out_list;
}

bool cohort_ray_env_merge(const char *name, const char *node_value,
                          const char *driver_value,
                          bool (*is_there)(const char *path, void *user_data),
                          void *user_data, char *out_value) {
    if (node_value) return false;
    if (cohort_ray_env_is_path_list(name))
        return keep_paths(name, driver_value, is_there, user_data, out_value);
    strcpy(out_value, driver_value);
    return true;
}

/* ---- ends --------------------------------------------------------------------- */

const char *cohort_ray_reason(const char *page) {
    /* Ray 2.51 to 2.60.  Its page for a death that it cannot explain guesses at the
     * kernel's OOM killer, SIGSEGV and `ray stop`: those words mean nothing. */
    static const struct {
        const char *phrase, *reason;
    } known[] = {
        {"low on memory", "Ray ended it as its node ran low on memory"},
        {"placement group was removed", "its placement group was removed"},
        {"killed by `ray.kill`", "somebody's ray.kill ended it"},
        {"node has died", "its node died, says Ray"},
        {"owner has died", "its Ray driver, the sidecar, is gone"},
        {"owner died", "its Ray driver, the sidecar, is gone"},
        {"is unavailable", "Ray does not reach it any more"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcasestr(page, known[i].phrase)) return known[i].reason;
    return NULL;
}
