package segments

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"

	"github.com/lanternist/lanternist/internal/disk"
	"github.com/lanternist/lanternist/journal"
)

// An entry over inlineMax is a file of its own, and what the segment has in its place is a claim check: how long the file
// is, and its checksum. The file is synced, and its name too, before the claim check is appended, so that there is never a
// claim check without its file; a file without its claim check is what a crash left, and goes when the log is opened. Files
// go after the entries that they belong to. Whoever reads the log sees no difference.
//
//	segment   raft log { data: claim check, extensions: mark + "\x01" }
//	claim check, 12 bytes: length of the entry (8), its crc32c (4); big-endian
//	large/00000000000000000812-9a3c01ff.entry: the entry; its name has the sequence and the checksum
const (
	// inlineMax is the largest entry that lies in a segment itself. A raft-wal append keeps two copies of what it writes.
	inlineMax = 16 << 20
	// maxEntry is what the largest change that Postgres can send becomes, with its before-image: each is less than 1 GiB.
	maxEntry = math.MaxInt32

	largeDir  = "large"
	claimSize = 12
	claimMark = "\x01"
)

// claim is what stands in a segment in the place of a large entry.
type claim struct {
	sequence, length uint64
	crc              uint32
}

func newClaim(sequence uint64, entry []byte) claim {
	return claim{sequence: sequence, length: uint64(len(entry)), crc: crc32.Checksum(entry, castagnoli)}
}

// name is the name of the entry's file in the folder of large entries.
func (c claim) name() string { return fmt.Sprintf("%020d-%08x.entry", c.sequence, c.crc) }

// log is the claim check as the WAL stores it.
func (c claim) log() *raft.Log {
	data := binary.BigEndian.AppendUint64(make([]byte, 0, claimSize), c.length)
	return &raft.Log{
		Index: c.sequence, Data: binary.BigEndian.AppendUint32(data, c.crc),
		Extensions: append(appendMark(nil, c.sequence), claimMark...),
	}
}

// readClaim says whether a raft log is a claim check. Its mark has been checked.
func readClaim(l *raft.Log) (c claim, ok bool) {
	if len(l.Data) != claimSize || len(l.Extensions) != markSize+len(claimMark) || string(l.Extensions[markSize:]) != claimMark {
		return claim{}, false
	}
	return claim{sequence: l.Index, length: binary.BigEndian.Uint64(l.Data), crc: binary.BigEndian.Uint32(l.Data[8:])}, true
}

// write makes the entry's file durable in the log's folder.
func (c claim) write(d *disk.Disk, dir string, entry []byte) (err error) {
	large := filepath.Join(dir, largeDir)
	path := filepath.Join(large, c.name())
	var f *os.File
	err = d.Retry(path, func() error {
		if err := makeDir(large); err != nil {
			return err
		}
		f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	_, err = d.WriteAll(path, entry, func(p []byte, written int) (int, error) { return f.WriteAt(p, int64(written)) })
	if err == nil {
		err = d.Sync(path, f.Sync)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return d.Sync(large, func() error { return syncDir(large) })
}

// read reads the entry's file. A file that is not there is fs.ErrNotExist, one that is not as it was written ErrCorrupt.
func (c claim) read(dir string) ([]byte, error) {
	path := filepath.Join(dir, largeDir, c.name())
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if c.length > maxEntry || uint64(info.Size()) != c.length {
		return nil, fmt.Errorf("%w: entry %d: %s has %d bytes, want %d", journal.ErrCorrupt, c.sequence, path, info.Size(), c.length)
	}
	entry := make([]byte, c.length)
	if _, err := f.ReadAt(entry, 0); err != nil {
		return nil, err
	}
	if sum := crc32.Checksum(entry, castagnoli); sum != c.crc {
		return nil, fmt.Errorf("%w: entry %d: checksum of %s is %08x, want %08x", journal.ErrCorrupt, c.sequence, path, sum, c.crc)
	}
	return entry, nil
}

// largeFile is the file of a large entry.
type largeFile struct {
	path     string
	sequence uint64
	crc      uint32
}

// largeFiles lists the files of large entries in the order of their entries.
func largeFiles(dir string) ([]largeFile, error) {
	entries, err := os.ReadDir(filepath.Join(dir, largeDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var files []largeFile
	for _, e := range entries {
		var f largeFile
		if n, _ := fmt.Sscanf(e.Name(), "%020d-%08x.entry", &f.sequence, &f.crc); n == 2 {
			f.path = filepath.Join(dir, largeDir, e.Name())
			files = append(files, f)
		}
	}
	return files, nil
}

// removeLarge removes the files of large entries that belongs says are not needed.
func removeLarge(dir string, needed func(largeFile) (bool, error)) (removed int, err error) {
	files, err := largeFiles(dir)
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		keep, err := needed(f)
		if err != nil {
			return removed, err
		}
		if keep {
			continue
		}
		if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return removed, err
		}
		removed++
	}
	if removed == 0 {
		return 0, nil
	}
	return removed, syncDir(filepath.Join(dir, largeDir))
}

// sweep removes the files that no entry of the log claims: what a crash left between the file and its claim check, or
// between a trim and the removal of the files.
func (l *Log) sweep() error {
	first, err := l.wal.FirstIndex()
	if err != nil {
		return err
	}
	last, err := l.wal.LastIndex()
	if err != nil {
		return err
	}
	removed, err := removeLarge(l.dir, func(f largeFile) (bool, error) {
		if f.sequence < first || f.sequence > last {
			return false, nil
		}
		var entry raft.Log
		if err := l.get(f.sequence, &entry); err != nil {
			return true, nil //nolint:nilerr // it is told when the entry is read; until then nothing of it is removed
		}
		c, ok := readClaim(&entry)
		return ok && c.crc == f.crc, nil
	})
	if err != nil {
		return fmt.Errorf("remove files of large entries: %w", err)
	}
	if removed > 0 {
		l.log.Info("journal files without an entry removed", "files", removed)
	}
	return nil
}
