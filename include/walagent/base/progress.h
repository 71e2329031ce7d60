/*
 * walagent/base/progress.h - how far a long piece of work is: written by workers, read by whoever
 * shows it.
 */
#ifndef WALAGENT_BASE_PROGRESS_H
#define WALAGENT_BASE_PROGRESS_H

#include <stdatomic.h>
#include <stdint.h>

typedef struct wa_progress {
    _Atomic(const char *) phase; /* a constant string: "copying", "waiting for WAL" */
    atomic_uint_fast64_t done_bytes, total_bytes; /* total 0: unknown */
    atomic_uint_fast64_t done_files, total_files;
} wa_progress;

#endif
