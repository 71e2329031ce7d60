/*
 * walagent/store/drivers.h - drivers for tests: mem, and fault, which wraps any store.
 */
#ifndef WALAGENT_STORE_DRIVERS_H
#define WALAGENT_STORE_DRIVERS_H

#include "walagent/store/store.h"

wa_store *wa_store_mem_new(void);

typedef enum wa_fault {
    WA_FAULT_FAIL,          /* the call fails with UNAVAILABLE before anything happens */
    WA_FAULT_LOSE_REPLY,    /* the call is carried out, then answered with UNAVAILABLE */
    WA_FAULT_TEAR,          /* put: UNAVAILABLE and nothing written; get: ends early with CORRUPT or
                               UNAVAILABLE */
    WA_FAULT_FLIP,          /* get: one bit is flipped */
    WA_FAULT_TRUNCATE_LIST, /* list: fails after half of the objects */
    WA_FAULT_OVERWRITE,     /* put: replaces, whatever was asked for: no conditional PUT */
    WA_FAULT_DENY,          /* DENIED */
    WA_FAULT_ROT,           /* CORRUPT */
    WA_FAULT_GONE           /* NOT_FOUND, as S3 says of an upload that was aborted */
} wa_fault;
/* Takes inner. Drafts are inner's; kind "draft": a fault leaves a call without one. A put that
 * waits for its turn (wa_store_put_when) meets its fault when it is its turn. */
wa_store *wa_store_fault_new(wa_store *inner);
/* Called once, before the n-th call from now of kind ("put", "get", "head", "list", "draft") is
 * carried out: what another writer does at this very moment. It may use the store. */
void wa_store_fault_before(wa_store *fault, const char *kind, unsigned nth, void (*fn)(void *arg),
                           void *arg);
/* Called before every such call from now on, from as many threads as there are. */
void wa_store_fault_before_each(wa_store *fault, const char *kind, void (*fn)(void *arg),
                                void *arg);
/* The n-th call (1-based, counted from now) of kind ("put", "get", ..., "any") meets the fault;
 * `repeat` more times after that. Replaces what was set before. */
void wa_store_fault_set(wa_store *fault, const char *kind, unsigned nth, unsigned repeat,
                        wa_fault what);
unsigned wa_store_fault_hits(const wa_store *fault);

#endif
