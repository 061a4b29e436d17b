// Package checkpoint keeps copies of the mirror in a blob store: from one of them and the journal's events after it the
// captured tables can be had as they were at any later moment.
//
// The contents of files are stored by their SHA-256, so that a file which two copies share, as they do most of the
// mirror's, is stored once. A copy is there when its manifest is, which is written last.
//
//	mirror/<journal>/objects/<first 2 digits>/<SHA-256>        contents of a file
//	mirror/<journal>/checkpoints/<offset>-<sum>.json           manifest of a copy; sum is of the manifest itself
//	mirror/<journal>/removed/<offset>-<sum>.json               manifest of a copy that was removed lately
//
// Invariants:
//   - What a manifest under checkpoints names was in the store before the manifest was.
//   - An object is only deleted when no manifest names it, those removed within Config.Grace included, and it is older than
//     that. A writer stores anew what no manifest names when it begins, and gives up when it takes longer than half of
//     Grace. So neither a writer that crashes, nor one at work beside a removal, leaves a manifest whose objects are gone.
//   - Restore gives back what was stored, or an error that names the file: every byte is compared with its hash.
//
// What a copy consists of is package mirror's; which moments it can be used for, package asof's.
package checkpoint
