package control

// OpenPebbleOn opens the store on a disk of a test's own.
var OpenPebbleIn = openPebble
