package migrate

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	sigs "sigs.k8s.io/yaml"

	"github.com/heraldlb/herald/config"
)

// unmarshal reads JSON with numbers as they were written.
func unmarshal(text []byte, into any) error {
	return sigs.Unmarshal(text, into, func(d *json.Decoder) *json.Decoder { d.UseNumber(); return d })
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// list returns the items of a list; nil for what is none.
func list(value any) []any {
	l, _ := value.([]any)
	return l
}

// namespaceOf returns the namespace in "Kind namespace/name"; MetalLB's usual one when there is none.
func namespaceOf(object string) string {
	_, rest, _ := strings.Cut(object, " ")
	if ns, _, ok := strings.Cut(rest, "/"); ok {
		return ns
	}
	return "metallb-system"
}

// addresses carries the addresses of a pool over. A CIDR with host bits set means its whole network to MetalLB; Herald wants that written.
func addresses(_ *migration, o *Object, field string, value any) {
	var out []any
	var changed []string
	for _, v := range list(value) {
		text := strings.TrimSpace(fmt.Sprint(v))
		plain := text
		if p, err := netip.ParsePrefix(text); err == nil && p != p.Masked() {
			plain = p.Masked().String()
			changed = append(changed, text+" is the network "+plain)
		}
		if slices.Contains(out, any(plain)) {
			changed = append(changed, plain+" stood twice")
			continue
		}
		out = append(out, plain)
	}
	o.Spec[field] = out
	if len(changed) > 0 {
		o.note(Changed, field, field, strings.Join(changed, "; "))
		return
	}
	o.note(Carried, field, field, "")
}

// duration carries a duration over, in whole seconds and at most so many of them.
func duration(most int) rule {
	return func(_ *migration, o *Object, field string, value any) {
		text := fmt.Sprint(value)
		d, err := time.ParseDuration(text)
		switch {
		case value == nil || text == "" || field == "connectTime" && d == 0 && err == nil:
			o.note(Carried, field, "", "says nothing but the default")
			return
		case err != nil:
			o.note(Lost, field, "", "is no duration: "+strconv.Quote(text))
			return
		}
		whole := min(int(d.Round(time.Second).Seconds()), most)
		if whole == 0 && d > 0 {
			whole = 1
		}
		o.Spec[field] = fmt.Sprintf("%ds", whole)
		if time.Duration(whole)*time.Second != d {
			o.note(Changed, field, field, fmt.Sprintf("it was %s: Herald takes whole seconds, %d at most", text, most))
			return
		}
		o.note(Carried, field, field, "")
	}
}

// seconds reads what duration wrote.
func seconds(value any) int {
	text, _ := value.(string)
	n, _ := strconv.Atoi(strings.TrimSuffix(text, "s")) // absent: 0
	return n
}

// communities carries the communities of an advertisement over, and gives those that are names the form that names have here.
func communities(m *migration, o *Object, field string, value any) {
	var out []any
	var changed []string
	for _, v := range list(value) {
		text := fmt.Sprint(v)
		if strings.Contains(text, ":") {
			out = append(out, text)
			continue
		}
		name := communityName(text)
		if name != text {
			changed = append(changed, text+" is "+name)
		}
		out = append(out, name)
	}
	set(m, o, field, out)
	if len(changed) > 0 {
		o.note(Changed, field, field, "names have another form here: "+strings.Join(changed, "; "))
	}
}

// aliases carries the names of communities over. Herald knows the well-known ones by name: one of those needs no object.
func aliases(_ *migration, o *Object, field string, value any) {
	var out []any
	for _, v := range list(value) {
		alias, _ := v.(map[string]any)
		name, is := fmt.Sprint(alias["name"]), fmt.Sprint(alias["value"])
		known, err := config.ParseCommunity(name)
		where := field + "[" + name + "]"
		switch same := communityName(name); {
		case err == nil && known.String() == canonical(is):
			o.note(Changed, where, "", "Herald knows "+name+" without being told")
		case err == nil:
			o.note(Lost, where, "", "is the name of a well-known community ("+known.String()+"), and says "+is+": give it another name, here and in the advertisements")
		case same != name:
			out = append(out, map[string]any{"name": same, "value": is})
			o.note(Changed, where, field, "names have letters, digits, -, _ and . here, and begin with a letter: "+name+" is "+same)
		default:
			out = append(out, map[string]any{"name": name, "value": is})
			o.note(Carried, where, field, "")
		}
	}
	o.Spec[field] = out
}

// canonical writes a community as Herald prints it; what is none stays as it is.
func canonical(text string) string {
	if c, err := config.ParseCommunity(text); err == nil {
		return c.String()
	}
	return text
}

// communityName makes a name that Herald takes of any.
func communityName(text string) string {
	letter := func(b byte) bool { return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' }
	out := []byte(text)
	for i, b := range out {
		if !letter(b) && (b < '0' || b > '9') && !strings.ContainsRune("-_.", rune(b)) {
			out[i] = '-'
		}
	}
	if len(out) == 0 || !letter(out[0]) {
		out = append([]byte("c-"), out...)
	}
	return string(out)
}

// communities takes away Community objects that nothing is left of.
func (m *migration) communities() {
	m.result.Objects = slices.DeleteFunc(m.result.Objects, func(o *Object) bool {
		if o.Kind != "Community" || len(list(o.Spec["communities"])) > 0 {
			return false
		}
		m.result.Notes = append(m.result.Notes, o.notes...)
		m.tell(Changed, o.from, "", "nothing is left of it, so it is left out")
		return true
	})
}
