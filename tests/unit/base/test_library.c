/*
 * test_library.c - libraries that are loaded when they are first needed.
 */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "walagent/base/library.h"
#include "walagent/base/mem.h"

#include <math.h>
#include <string.h>

#define FUNCTIONS(F)                                                                               \
    F(double, tgamma, (double x), (x))                                                             \
    F(double, copysign, (double x, double sign), (x, sign))
WA_LIBRARY("libm.so.6", FUNCTIONS);
FUNCTIONS(WA_LIBRARY_DEFINE)

/* Not constants for the compiler, which knows these functions. */
static volatile double five = 5, minus = -1;

static void
a_function_is_called_through_the_table(void **state)
{
    (void)state;
    assert_true(tgamma(five) > 23.999 && tgamma(five) < 24.001);
    assert_true(library.loaded);
    assert_true(copysign(five, minus) < 0);
}

static void *
call_it(void *arg)
{
    (void)arg;
    return tgamma(five) > 23.999 ? call_it : NULL;
}

static void
threads_may_load_it_at_once(void **state)
{
    pthread_t threads[4];
    (void)state;
    library.loaded = false;
    for (size_t i = 0; i < WA_ARRAY_SIZE(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call_it, NULL), 0);
    for (size_t i = 0; i < WA_ARRAY_SIZE(threads); i++) {
        void *result = NULL;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_non_null(result);
    }
}

static void
a_missing_library_is_named(void **state)
{
    static const char *const names[] = {"x"};
    static void *functions[1];
    wa_library absent = {.soname = "libwalagent-absent.so.0",
                         .names = names,
                         .functions = functions,
                         .count = 1,
                         .mutex = PTHREAD_MUTEX_INITIALIZER};
    wa_error err = WA_ERROR_INIT;
    (void)state;
    assert_int_equal(wa_library_load(&absent, &err), WA_FAILED);
    assert_non_null(strstr(err.message, "libwalagent-absent.so.0"));
    assert_string_not_equal(err.hint, "");
    assert_false(absent.loaded);
}

static void
a_missing_function_is_named(void **state)
{
    static const char *const names[] = {"tgamma", "walagent_absent"};
    static void *functions[2];
    wa_library other = {.soname = "libm.so.6",
                        .names = names,
                        .functions = functions,
                        .count = 2,
                        .mutex = PTHREAD_MUTEX_INITIALIZER};
    wa_error err = WA_ERROR_INIT;
    (void)state;
    assert_int_equal(wa_library_load(&other, &err), WA_FAILED);
    assert_non_null(strstr(err.message, "walagent_absent"));
    assert_false(other.loaded);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_function_is_called_through_the_table),
        cmocka_unit_test(threads_may_load_it_at_once),
        cmocka_unit_test(a_missing_library_is_named),
        cmocka_unit_test(a_missing_function_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
