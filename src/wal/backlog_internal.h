/*
 * backlog_internal.h - how near the WAL that is not durable has come to a limit. Pure functions.
 *
 *   limit = the smaller of spool_max and (backlog + safe_wal_size): what fits before the spool is
 *           full, or before the server invalidates the slot
 *   level = 0 below 25 %, 1 below 50 %, 2 below 75 %, 3 above
 *
 * Each level is told when it is reached. It is left only when the backlog is 5 % below it, so that
 * one that swings around a boundary is told once.
 */
#ifndef WALAGENT_BACKLOG_INTERNAL_H
#define WALAGENT_BACKLOG_INTERNAL_H

#include <stdint.h>

#define WA_BACKLOG_STEP 25 /* per cent */
#define WA_BACKLOG_LEVELS 3
#define WA_BACKLOG_SLACK 5

/* safe_wal_size < 0: the slot has no limit. */
uint64_t wa_backlog_limit(uint64_t backlog, uint64_t spool_max, int64_t safe_wal_size);
unsigned wa_backlog_level(uint64_t backlog, uint64_t limit, unsigned before);

#endif
