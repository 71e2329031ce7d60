/*
 * tests/unit/support/wall_clock.h - the wall clock can be set: libc's clock_gettime is replaced in
 * programs that use this.
 */
#ifndef WALAGENT_TEST_WALL_CLOCK_H
#define WALAGENT_TEST_WALL_CLOCK_H

extern _Atomic long wall_clock_step; /* seconds that CLOCK_REALTIME is ahead */

#endif
