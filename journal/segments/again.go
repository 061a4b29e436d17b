package segments

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"

	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
)

// A sync that fails may leave pages that the system takes for written, and that are not: they are read as they should be until they
// leave its memory, and the next sync says that all is well. So what the process before may have left so is written once
// more before it is synced and trusted: the last append of the last segment, for each one before it was synced before it
// was begun; and the metadata, whose two roots are written in turn.

// againBytes is how much is read and written in one piece.
const againBytes = 1 << 20

// Frames of a segment file: a header of segmentHeader bytes; then frames, each with a header of frameHeader bytes, of which the first is
// the kind and the last four the payload's length. The payload is filled up to a multiple of the header. A commit ends an append,
// and has a checksum in the place of the length, and no payload.
const (
	segmentHeader = 32
	frameHeader   = 8

	frameEntry, frameIndex, frameCommit = 1, 2, 3
)

// tailFrames is what the frames of the last segment's file tell.
type tailFrames struct {
	from, to int64 // the last append that was written whole; from the file's beginning when there is no other
	torn     int64 // header of an index behind it, of an append that was not written whole; 0: none
}

// readFrames reads the frames of a segment file.
func readFrames(file io.ReaderAt) (found tailFrames, err error) {
	var header [frameHeader]byte
	for at := int64(segmentHeader); ; {
		if _, err := file.ReadAt(header[:], at); errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return tailFrames{}, err
		}
		frame := at
		at += frameHeader
		switch header[0] {
		case frameEntry, frameIndex:
			if header[0] == frameIndex {
				found.torn = frame
			}
			length := int64(binary.LittleEndian.Uint32(header[4:]))
			at += (length + frameHeader - 1) / frameHeader * frameHeader
		case frameCommit:
			found = tailFrames{from: found.to, to: at}
		default:
			return found, nil // the end, or damage, which is found when the segment is read
		}
	}
}

// syncAgain writes what is in a file from one offset to another once more, in place, and syncs the file.
func syncAgain(file types.WritableFile, from, to int64) error {
	buf := make([]byte, min(againBytes, max(to-from, 0)))
	for from < to {
		n, err := file.ReadAt(buf[:min(int64(len(buf)), to-from)], from)
		if n == 0 && errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if _, err := file.WriteAt(buf[:n], from); err != nil {
			return err
		}
		from += int64(n)
	}
	return file.Sync()
}

// syncTail makes the last segment's last append durable. An index without its commit is taken back: the WAL would take the segment for
// closed, and could not read it.
func syncTail(dir string, d storage, name string) error {
	file, err := d.OpenWriter(dir, name)
	if err != nil {
		return err
	}
	frames, err := readFrames(file)
	if err == nil && frames.torn > 0 {
		_, err = file.WriteAt(make([]byte, frameHeader), frames.torn)
	}
	if err == nil {
		err = syncAgain(file, frames.from, frames.to)
	}
	return errors.Join(err, file.Close())
}

// metaMost is more than the metadata ever is.
const metaMost = 1 << 30

// syncMeta makes the metadata durable as it is read. Nothing may have it open.
func syncMeta(dir string, d storage) error {
	file, err := d.OpenWriter(dir, metadb.FileName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(syncAgain(file, 0, metaMost), file.Close())
}
