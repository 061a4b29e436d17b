package main

import "testing"

func TestPlacesFor(t *testing.T) {
	for files, want := range map[int]int{0: 0, 4: 1, 128: 16, 256: 64, 384: 192, 1024: 512, 1 << 20: 1 << 19} {
		if got := placesFor(files); got != want {
			t.Errorf("with %d files %d connections, want %d", files, got, want)
		}
	}
}
