// Rules that ship with the gateway. They need no network and no database, so an intake without an
// antivirus daemon still sees the plain cases.
//
// meta: severity = "found" (must not pass) or "suspect" (a person decides). A rule without a
// severity counts as "found". `first_window` is true for the window that holds the file's start:
// large files are scanned in overlapping windows, and "at 0" must not mean the start of a later one.

rule eicar_test_file {
  meta:
    severity = "found"
    description = "EICAR anti-malware test string, plain or in base64"
  strings:
    $body = "X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!" ascii wide
    $coded = "EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*" base64
  condition:
    any of them
}

rule executable_pe {
  meta:
    severity = "found"
    description = "Windows program or library"
  condition:
    first_window and uint16(0) == 0x5A4D and uint32(uint32(0x3C)) == 0x00004550
}

rule executable_dos {
  meta:
    severity = "suspect"
    description = "starts like a DOS or Windows program"
  condition:
    first_window and uint16(0) == 0x5A4D
}

rule executable_elf {
  meta:
    severity = "found"
    description = "Unix program or library"
  condition:
    first_window and uint32(0) == 0x464C457F
}

rule executable_macho {
  meta:
    severity = "found"
    description = "macOS program or library, or a Java class"
  condition:
    first_window and (uint32be(0) == 0xFEEDFACE or uint32be(0) == 0xFEEDFACF or
      uint32be(0) == 0xCEFAEDFE or uint32be(0) == 0xCFFAEDFE or
      (uint32be(0) == 0xCAFEBABE and filesize > 8))
}

rule executable_embedded {
  meta:
    severity = "suspect"
    description = "a Windows program inside another file"
  strings:
    $stub = "This program cannot be run in DOS mode"
    $coded = "This program cannot be run in DOS mode" base64
    $hex = "546869732070726f6772616d2063616e6e6f742062652072756e" nocase
    $pe = { 4D 5A [56-60] ( 40 | 60 | 70 | 80 | 90 | A0 | B0 | C0 | D0 | E0 | F0 ) 00 00 00 [0-256] 50 45 00 00 ( 4C 01 | 64 86 ) }
  condition:
    any of them and not (first_window and uint16(0) == 0x5A4D)
}

rule shortcut_lnk {
  meta:
    severity = "found"
    description = "Windows shortcut: runs a command when opened"
  strings:
    $lnk = { 4C 00 00 00 01 14 02 00 00 00 00 00 C0 00 00 00 00 00 00 46 }
  condition:
    first_window and $lnk at 0
}

rule shortcut_embedded {
  meta:
    severity = "suspect"
    description = "Windows shortcut inside another file"
  strings:
    $lnk = { 4C 00 00 00 01 14 02 00 00 00 00 00 C0 00 00 00 00 00 00 46 }
  condition:
    for any i in (1..#lnk) : (@lnk[i] > 0)
}

rule shortcut_url_file {
  meta:
    severity = "suspect"
    description = "internet shortcut that points at a file"
  strings:
    $head = "[InternetShortcut]" nocase
    $file = /URL\s*=\s*(file:|\\\\)/ nocase
  condition:
    first_window and filesize < 64KB and all of them
}

rule hta_application {
  meta:
    severity = "found"
    description = "HTML application"
  strings:
    $tag = "<hta:application" nocase
  condition:
    $tag
}

rule script_dropper {
  meta:
    severity = "found"
    description = "script that starts programs or writes files through Windows Script Host"
  strings:
    $make1 = /CreateObject\s*\(\s*["']WScript\.Shell["']/ nocase
    $make2 = /ActiveXObject\s*\(\s*["']WScript\.Shell["']/ nocase
    $act1 = /\.(Run|Exec)\b/ nocase
    $act2 = "ADODB.Stream" nocase
    $act3 = "MSXML2.XMLHTTP" nocase
  condition:
    any of ($make*) and any of ($act*)
}

rule script_powershell_hidden {
  meta:
    severity = "suspect"
    description = "PowerShell call with an encoded or hidden command"
  strings:
    $call = /powershell(\.exe)?["']?\s[^\r\n]{0,120}-(e|ec|enc|encodedcommand|w|windowstyle|nop|noprofile)\s/ nocase
    $load = /powershell[^\r\n]{0,200}(DownloadString|FromBase64String|Invoke-Expression)/ nocase
  condition:
    any of them
}

rule script_shell {
  meta:
    severity = "suspect"
    description = "Unix script or Windows batch file"
  strings:
    $shebang = /#!\s?\/(usr\/)?(local\/)?s?bin\//
    $batch = /@echo\s+off/ nocase
  condition:
    first_window and ($shebang at 0 or (@batch[1] < 64 and filesize < 1MB))
}

rule html_smuggling {
  meta:
    severity = "suspect"
    description = "web page that builds a file to be saved"
  strings:
    $script = "<script" nocase
    $decode = "atob(" nocase
    $save1 = "createObjectURL" nocase
    $save2 = "msSaveOrOpenBlob" nocase
  condition:
    $script and $decode and any of ($save*)
}

rule svg_script {
  meta:
    severity = "suspect"
    description = "drawing with a script"
  strings:
    $svg = "<svg" nocase
    $script = "<script" nocase
    $event = /\sonload\s*=/ nocase
  condition:
    first_window and @svg[1] < 4096 and any of ($script, $event)
}

rule pdf_launch {
  meta:
    severity = "suspect"
    description = "PDF that starts a program"
  strings:
    $pdf = "%PDF-"
    $fdf = "%FDF-"
    $launch = /\/S\s*\/Launch\b/
  condition:
    first_window and (@pdf[1] < 1024 or @fdf[1] < 1024) and $launch
}

rule pdf_automatic_script {
  meta:
    severity = "suspect"
    description = "PDF with JavaScript that may run by itself"
  strings:
    $pdf = "%PDF-"
    $fdf = "%FDF-"
    $open = /\/(OpenAction|AA)\b/
    $names = "/JavaScript"
    $script = /\/(S\s*\/JavaScript|JS\s*[\(<\d])/
  condition:
    first_window and (@pdf[1] < 1024 or @fdf[1] < 1024) and $script and ($open or $names)
}

rule office_vba_project {
  meta:
    severity = "suspect"
    description = "Office file with a macro project"
  strings:
    $zip = "vbaProject.bin"
    $ole = "_VBA_PROJECT" wide
    $automatic = /(Auto_?Open|Auto_?Close|Document_Open|Workbook_Open|AutoExec|Auto_?New)/ nocase
  condition:
    ((first_window and uint32be(0) == 0x504B0304) and $zip) or
    ((first_window and uint32be(0) == 0xD0CF11E0) and ($ole or ($automatic and uint32be(4) == 0xA1B11AE1)))
}

rule rtf_object {
  meta:
    severity = "suspect"
    description = "rich text with an embedded or linked object"
  strings:
    $rtf = "{\\rt"
    $data = "\\objdata" nocase
    $update = "\\objupdate" nocase
    $link = "\\objautlink" nocase
    $field = /\\fldinst[^}]{0,200}DDE/ nocase
  condition:
    first_window and @rtf[1] < 64 and any of ($data, $update, $link, $field)
}

rule onenote_attachment {
  meta:
    severity = "suspect"
    description = "OneNote section with an embedded file"
  strings:
    $one = { E4 52 5C 7B 8C D8 A7 4D AE B1 53 78 D0 29 96 D3 }
    $file = { E7 16 E3 BD 65 26 11 45 A4 C4 8D 4D 0B 7A 9E AC }
  condition:
    first_window and $one at 0 and $file
}

rule compiled_help {
  meta:
    severity = "suspect"
    description = "compiled Windows help: may hold scripts"
  condition:
    first_window and uint32be(0) == 0x49545346
}
