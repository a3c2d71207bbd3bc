/* SPDX-License-Identifier: Apache-2.0 */
/* models/ring.pml - the queue's ring and its sleep/wake handshake, with weak memory.
 *
 * One writer sends MESSAGES messages through a ring of SLOTS to one reader; each side
 * polls, then counts itself as a sleeper and sleeps without a time limit.  (The library
 * slices its sleeps; here a lost wake-up must show as a deadlock, not as a delay.)
 *
 * Memory is a sketch of C11, coarser than the standard, in which every order that ring.c
 * and wait.c name is needed:
 *   - a store waits in its side's buffer and reaches memory at any later time, in any
 *     order.  A RELEASE store reaches it after the payload stored before it.  A seq_cst
 *     FENCE empties the buffer.
 *   - where a look is not ACQUIRE, what follows it may come before it: the reader may take
 *     the payload early; the writer may overwrite the slot early (a guess that the look
 *     will allow it; runs where it does not are dropped).
 *   - where a store is not RELEASE, a read before it may come after it: the reader may
 *     take the payload when it has already given the slot back.
 *
 * Letters as in ring.c's design notes; each is taken away by a -D of its own:
 *   NO_A   publish is not release            NO_B   the look at published is not acquire
 *   NO_C   consume is not release            NO_D   the look at consumed is not acquire
 *   NO_E1  the writer signals without fence  NO_E2  the reader signals without fence
 *   NO_F1  the reader prepares without       NO_F2  the writer prepares without
 *
 * scripts/model.sh runs all of them: with every order the model passes, without any one
 * it fails (a wrong payload, or a deadlock: somebody slept through the signal).
 *
 * With -DBELL it is a pipe of collective/outbox.c: the same two counters, but who waits
 * sleeps in poll() on an eventfd, its doorbell, which keeps a ring until it is read.  Its
 * letters are the ring's, in small: a head stored, b head looked at, c tail stored, d tail
 * looked at, e1 and e2 the fences of cohort_bell_ring, f1 and f2 those of the nap.
 *
 * models/orders.tsv names every order of these sources, and the letter that stands for it;
 * scripts/check_orders.py compares it with the sources.
 */
#ifndef MESSAGES
#define MESSAGES 3
#endif
#ifndef SLOTS
#define SLOTS 1
#endif

/* What memory holds. */
byte payload[SLOTS];
byte published, consumed;
byte data_word, space_word;         /* futex words: the reader's and the writer's */
bool data_sleepers, space_sleepers; /* one possible sleeper each: a count of 0 or 1 */
bool data_asleep, space_asleep;     /* the kernel's: who is inside futex_wait */
bool dropped;                       /* a guess was wrong: this run counts for nothing */

/* The writer's store buffer. */
bool w_payload_waits[SLOTS], w_published_waits, w_sleepers_waits;
byte w_payload[SLOTS], w_published;
bool w_sleepers;

/* The reader's. */
bool r_consumed_waits, r_sleepers_waits;
byte r_consumed;
bool r_sleepers;

byte w_slot, r_slot; /* loop counters of the flushes, reset after use */

inline flush_writer() {
    d_step {
        w_slot = 0;
        do
        :: w_slot < SLOTS ->
            if
            :: w_payload_waits[w_slot] ->
                payload[w_slot] = w_payload[w_slot];
                w_payload_waits[w_slot] = false
            :: else
            fi;
            w_slot++
        :: else -> break
        od;
        w_slot = 0;
        if
        :: w_published_waits -> published = w_published; w_published_waits = false
        :: else
        fi;
        if
        :: w_sleepers_waits -> space_sleepers = w_sleepers; w_sleepers_waits = false
        :: else
        fi
    }
}

inline flush_reader() {
    d_step {
        if
        :: r_consumed_waits -> consumed = r_consumed; r_consumed_waits = false
        :: else
        fi;
        if
        :: r_sleepers_waits -> data_sleepers = r_sleepers; r_sleepers_waits = false
        :: else
        fi
    }
}

/* The buffers reach memory by themselves, at any time. */
active proctype WriterBuffer() {
end:
    do
    :: atomic { w_payload_waits[0] ->
                payload[0] = w_payload[0]; w_payload_waits[0] = false }
#if SLOTS > 1
    :: atomic { w_payload_waits[1] ->
                payload[1] = w_payload[1]; w_payload_waits[1] = false }
#endif
#ifdef NO_A
    :: atomic { w_published_waits ->
#elif SLOTS > 1
    :: atomic { w_published_waits && !w_payload_waits[0] && !w_payload_waits[1] ->
#else
    :: atomic { w_published_waits && !w_payload_waits[0] ->
#endif
                published = w_published; w_published_waits = false }
    :: atomic { w_sleepers_waits ->
                space_sleepers = w_sleepers; w_sleepers_waits = false }
    od
}

active proctype ReaderBuffer() {
end:
    do
    :: atomic { r_consumed_waits -> consumed = r_consumed; r_consumed_waits = false }
    :: atomic { r_sleepers_waits ->
                data_sleepers = r_sleepers; r_sleepers_waits = false }
    od
}

inline store_payload(value) {
    atomic { w_payload[next % SLOTS] = value; w_payload_waits[next % SLOTS] = true }
}

inline store_writer_sleepers(value) {
    atomic { w_sleepers = value; w_sleepers_waits = true }
}

inline store_reader_sleepers(value) {
    atomic { r_sleepers = value; r_sleepers_waits = true }
}

#ifdef BELL
inline sleep_on(word, asleep) {
    if
    :: atomic { word > 0 -> word = 0 }
    :: dropped -> goto done
    fi
}

inline wake(word, asleep) { word = 1 }
#else
inline sleep_on(word, asleep) {
    atomic {
        if
        :: word == ticket -> asleep = true
        :: else
        fi
    };
    if
    :: !asleep
    :: dropped -> goto done
    fi
}

inline wake(word, asleep) {
    word++;
    asleep = false
}
#endif

active proctype Writer() {
    byte next, ticket;
    bool early;
    do
    :: next == MESSAGES -> break
    :: else ->
        /* Wait until the slot is free. */
look:
#ifdef NO_D
        if
        :: !early -> store_payload(next + 1); early = true
        :: skip
        fi;
#endif
        if
        :: next - consumed < SLOTS -> goto free
        :: else
        fi;
        if
        :: early -> dropped = true; goto done
        :: else
        fi;
        if
        :: goto look /* polls on */
        :: skip
        fi;
        ticket = space_word;
        store_writer_sleepers(1);
#ifndef NO_F2
        flush_writer();
#endif
        if
        :: next - consumed < SLOTS -> store_writer_sleepers(0); goto free
        :: else
        fi;
        sleep_on(space_word, space_asleep);
        store_writer_sleepers(0);
        goto look;
free:
        if
        :: !early -> store_payload(next + 1)
        :: else
        fi;
        early = false;
        next++;
        atomic { w_published = next; w_published_waits = true };
        /* Signal. */
#ifndef NO_E1
        flush_writer();
#endif
        if
        :: data_sleepers -> wake(data_word, data_asleep)
        :: else
        fi
    od;
done:
    skip
}

active proctype Reader() {
    byte next, ticket, value;
    bool early;
    do
    :: next == MESSAGES -> break
    :: else ->
look:
        early = false;
#ifdef NO_B
        if
        :: value = payload[next % SLOTS]; early = true
        :: skip
        fi;
#endif
        if
        :: published > next -> goto here
        :: else
        fi;
        if
        :: goto look
        :: skip
        fi;
        ticket = data_word;
        store_reader_sleepers(1);
#ifndef NO_F1
        flush_reader();
#endif
        if
        :: published > next -> store_reader_sleepers(0); goto here
        :: else
        fi;
        sleep_on(data_word, data_asleep);
        store_reader_sleepers(0);
        goto look;
here:
#ifdef NO_C
        if
        :: atomic { r_consumed = next + 1; r_consumed_waits = true };
           value = payload[next % SLOTS];
           goto consumed_already
        :: skip
        fi;
#endif
        if
        :: !early -> value = payload[next % SLOTS]
        :: else
        fi;
        atomic { r_consumed = next + 1; r_consumed_waits = true };
consumed_already:
        assert(dropped || value == next + 1);
        next++;
        /* Signal. */
#ifndef NO_E2
        flush_reader();
#endif
        if
        :: space_sleepers -> wake(space_word, space_asleep)
        :: else
        fi
    od;
done:
    skip
}
