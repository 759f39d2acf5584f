package parse

import (
	"strings"
	"time"

	"github.com/heraldlb/herald/config"
)

// FormatMove writes the value of MoveAnnotation.
func FormatMove(m config.Move) string {
	return m.From + "/" + m.To + "/" + m.Until.UTC().Format(time.RFC3339)
}

// ParseMove reads the value of MoveAnnotation. What is not of that form asks for nothing.
func ParseMove(text string) config.Move {
	parts := strings.Split(text, "/")
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[0] == parts[1] {
		return config.Move{}
	}
	until, err := time.Parse(time.RFC3339, parts[2])
	if err != nil {
		return config.Move{}
	}
	return config.Move{From: parts[0], To: parts[1], Until: until.UTC()}
}
