// Package disk is the file system as the stores of a daemon see it. What passes is waited for: an operation for which there is no
// room, or no file descriptor, is tried again until there is, so that a full disk stops the stream, and not the process, and
// the stream goes on by itself. What does not pass is told once: a sync that failed, or a write that failed otherwise, is not
// tried again, because after a failed sync the system may count pages as written that are not, and would call the second
// attempt a success. The process then has to end, and the stores are read anew by the next one.
//
// A nil *Disk is the file system as it is. Which files there are, and what is in them, is left to the stores.
package disk
