package journal

// What the tests of the package share with the tests that need an engine, which lie outside of the package.
var (
	Known       = known
	Transaction = transaction
	PartOf      = part
	Describe    = describeAll
	RandomParts = randomParts
	Epoch       = epoch
	Orders      = orders
	Text        = text
)

// Reseal makes the checksum of an entry that a test has changed right.
func Reseal(entry []byte) { seal(entry) }
