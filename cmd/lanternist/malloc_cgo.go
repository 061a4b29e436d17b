//go:build cgo && linux

package main

/*
#ifdef __GLIBC__
#include <malloc.h>
#endif

// The mirror's cache lies outside of Go's memory in a build with cgo. By default glibc keeps an arena for every few threads, and
// stops giving large pieces back one by one once one was freed: together half as much again as is in use.
static void lanternist_malloc(void) {
#ifdef __GLIBC__
	mallopt(M_ARENA_MAX, 2);
	mallopt(M_MMAP_THRESHOLD, 256 << 10);
	mallopt(M_TRIM_THRESHOLD, 4 << 20);
#endif
}
*/
import "C"

func init() { C.lanternist_malloc() }
