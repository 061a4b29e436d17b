// Package archive keeps a journal's past in a blob store: ranges of the journal that are closed, as compressed, checksummed
// files that describe themselves.
//
// An Archive reads the files of one journal and is what package journal asks for batches that have left it. An Archiver
// writes them, and holds a claim on the journal: nothing is trimmed before it is archived. Entries are kept verbatim, so that
// what is read from a file is what was appended, with its checksum and its link to the entry before.
//
// Invariants:
//   - A file appears whole or not at all, and is never changed. Its name says which batches it holds.
//   - Every byte of a file is under a checksum. Damage, and a file that is missing, is an error that names the file and the
//     range of batches (journal.CorruptError); nothing after it is read as if it were not there.
//   - Files do not overlap. One Archiver writes; another one that writes the same journal differently is noticed.
//
// Which blob stores there are is left to package internal/bucket; what entries mean to package journal. DESIGN.md in this
// folder draws the file and tells what the decisions cost.
package archive
