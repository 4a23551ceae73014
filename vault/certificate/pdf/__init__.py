"""A certificate on paper: PDF/A pages with a seal, rendered by a child process.

Here: fonts, words in both languages, pages, the register's table, the seal. Not here: what a certificate
states (`vault.certificate.model`).

    pdf = print_certificate(certificate, language_of("zh"), identity)
"""
