/*
 * walagent/base/library.h - shared libraries that are loaded when they are first needed.
 *
 * libcurl, libpq, libarchive, libmicrohttpd and libcrypto bring some forty others along. Loading
 * them takes several times as long as a hook may take that needs none of them, so the program isn't
 * linked against them. One file for each library defines the functions that we call of it, under
 * their own names, so that callers are written as ever:
 *
 *     #define FUNCTIONS(F) F(int, x_open, (const char *path), (path)) F(void, x_close, (int x),
 * (x)) WA_LIBRARY("libx.so.1", FUNCTIONS);  // the table: library, INDEX_OF_x_open, ...
 *     FUNCTIONS(WA_LIBRARY_DEFINE)         // x_open() and x_close(), which call through it
 *
 * They are never unloaded.
 */
#ifndef WALAGENT_BASE_LIBRARY_H
#define WALAGENT_BASE_LIBRARY_H

#include "walagent/base/error.h"

#include <pthread.h>
#include <stddef.h>

typedef struct wa_library {
    const char *soname;
    const char *const *names;
    void **functions; /* as many as names; set once all of them are found */
    size_t count;
    pthread_mutex_t mutex;
    bool loaded; /* set last, read without the mutex */
} wa_library;

/* LIST(F) is F(type, name, (parameters), (arguments)) for each function. */
#define WA_LIBRARY_NAME(type, name, parameters, arguments) #name,
#define WA_LIBRARY_INDEX(type, name, parameters, arguments) INDEX_OF_##name,
#define WA_LIBRARY_DEFINE(type, name, parameters, arguments)                                       \
    type name parameters                                                                           \
    {                                                                                              \
        return ((__typeof__(&name))wa_library_function(&library, INDEX_OF_##name))arguments;       \
    }
#define WA_LIBRARY(file, LIST)                                                                     \
    enum { LIST(WA_LIBRARY_INDEX) COUNT_OF_NAMES };                                                \
    static const char *const library_names[] = {LIST(WA_LIBRARY_NAME)};                            \
    static void *library_functions[COUNT_OF_NAMES];                                                \
    static wa_library library = {                                                                  \
        .soname = file,                                                                            \
        .names = library_names,                                                                    \
        .functions = library_functions,                                                            \
        .count = COUNT_OF_NAMES,                                                                   \
        .mutex = PTHREAD_MUTEX_INITIALIZER,                                                        \
    }

/* FAILED, with the loader's reason, when the library or a function isn't there. Thread-safe; once
 * it is loaded it costs nothing. To be called where an error can still be told. */
wa_status wa_library_load(wa_library *library, wa_error *err) WA_MUST_CHECK;
/* Loads it, too; aborts where that fails. */
void *wa_library_function(wa_library *library, size_t index);

#endif
