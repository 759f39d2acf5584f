package config

// Subtract returns what is left of ranges when others are taken out. Both lists are sorted and disjoint, and so is the result.
func Subtract(ranges, without []Range) []Range {
	var out []Range
	for _, r := range ranges {
		for len(without) > 0 && without[0].To.Compare(r.From) < 0 {
			without = without[1:]
		}
		from := r.From
		for _, w := range without {
			if w.From.Compare(r.To) > 0 {
				break
			}
			if from.Compare(w.From) < 0 {
				out = append(out, Range{From: from, To: w.From.Prev()})
			}
			if from = w.To.Next(); !from.IsValid() || from.BitLen() != r.To.BitLen() {
				break
			}
		}
		if from.IsValid() && from.BitLen() == r.To.BitLen() && from.Compare(r.To) <= 0 {
			out = append(out, Range{From: from, To: r.To})
		}
	}
	return out
}
