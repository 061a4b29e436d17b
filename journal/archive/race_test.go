//go:build race

package archive

// raceDetector says whether the tests run ten times as slow.
const raceDetector = true
