/*
 * library.c - dlopen(3) of a library and of everything that we call of it.
 */
#include "walagent/base/library.h"

#include <dlfcn.h>
#include <stdio.h>

static wa_status
find_functions(wa_library *library, void *handle, wa_error *err)
{
    for (size_t i = 0; i < library->count; i++) {
        library->functions[i] = dlsym(handle, library->names[i]);
        if (library->functions[i] == NULL) {
            wa_error_set(err, WA_FAILED, "library \"%s\" has no function \"%s\"", library->soname,
                         library->names[i]);
            return wa_error_hint(err, "It is another version than the one that walagent was built "
                                      "with; build walagent again.");
        }
    }
    return WA_OK;
}

static wa_status
load_locked(wa_library *library, wa_error *err)
{
    if (library->loaded)
        return WA_OK;
    void *handle = dlopen(library->soname, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        const char *reason = dlerror();
        wa_error_set(err, WA_FAILED, "could not load library \"%s\": %s", library->soname,
                     reason == NULL ? "unknown reason" : reason);
        return wa_error_hint(err, "Install the package that contains it.");
    }
    wa_status status = find_functions(library, handle, err);
    if (status != WA_OK)
        (void)dlclose(handle);
    else
        __atomic_store_n(&library->loaded, true, __ATOMIC_RELEASE);
    return status;
}

wa_status
wa_library_load(wa_library *library, wa_error *err)
{
    if (__atomic_load_n(&library->loaded, __ATOMIC_ACQUIRE))
        return WA_OK;
    (void)pthread_mutex_lock(&library->mutex);
    wa_status status = load_locked(library, err);
    (void)pthread_mutex_unlock(&library->mutex);
    return status;
}

void *
wa_library_function(wa_library *library, size_t index)
{
    wa_error err = WA_ERROR_INIT;
    if (wa_library_load(library, &err) != WA_OK) {
        fprintf(stderr, "walagent: %s\nHINT:  %s\n", err.message, err.hint);
        wa_assert_failed(library->soname, __FILE__, __LINE__);
    }
    return library->functions[index];
}
