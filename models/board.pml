/* SPDX-License-Identifier: Apache-2.0 */
/* models/board.pml - the steps of collective/board.c between two ranks, with weak memory.
 *
 * In step t a rank waits until the other has posted t, lays what it gives into its slot
 * t % 2, posts t + 1, waits until the other has, and reads the other's slot.  The waits are
 * polls: sleep and doorbell are ring.pml's, with -DBELL.
 *
 * Memory as in ring.pml: stores wait in a buffer of their rank; a release store leaves it
 * behind what was stored before, and no earlier read comes after it; behind an acquire look
 * no read comes before it.
 *
 *   NO_t   post is not release        NO_u   the look at posted is not acquire
 */
#ifndef STEPS
#define STEPS 4
#endif

byte slots[4], posted[2];                    /* memory: slot s of rank r is 2 * r + s */
byte slot_new[4], posted_new[2];             /* buffers */
bool slot_waits[4], posted_waits[2];

active [2] proctype Buffer() {
    byte me = _pid % 2;
end:
    do
    :: atomic { slot_waits[2 * me] ->
                slots[2 * me] = slot_new[2 * me]; slot_waits[2 * me] = false }
    :: atomic { slot_waits[2 * me + 1] ->
                slots[2 * me + 1] = slot_new[2 * me + 1]; slot_waits[2 * me + 1] = false }
#ifdef NO_t
    :: atomic { posted_waits[me] ->
#else
    :: atomic { posted_waits[me] && !slot_waits[2 * me] && !slot_waits[2 * me + 1] ->
#endif
                posted[me] = posted_new[me]; posted_waits[me] = false }
    od
}

active [2] proctype Rank() {
    byte me = _pid % 2, t, value;
    bool early;
    do
    :: t == STEPS -> break
    :: else ->
        if
        :: t >= 2 -> posted[1 - me] >= t
        :: else
        fi;
        atomic { slot_new[2 * me + t % 2] = t + 1; slot_waits[2 * me + t % 2] = true };
        atomic { posted_new[me] = t + 1; posted_waits[me] = true };
        early = false;
#ifdef NO_u
        if
        :: value = slots[2 * (1 - me) + t % 2]; early = true
        :: skip
        fi;
#endif
        posted[1 - me] >= t + 1;
        if
        :: !early -> value = slots[2 * (1 - me) + t % 2]
        :: else
        fi;
        assert(value == t + 1);
        t++
    od
}
