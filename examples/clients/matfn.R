# A client of matfn for R, with the packages jsonlite and curl.
#
#   source("matfn.R"); matfn("inv_root", list(a = A), list(r = 4))$x
#   Rscript matfn.R inv_root a=A.csv r=4 > X.csv

#' Calls a function of the service.
#'
#' @param name of the function, such as "inv_root".
#' @param inputs list of vectors, matrices and arrays of doubles, batch dimensions first.
#' @param params list of the function's parameters, such as list(r = 4).
#' @param options list of the call's options, such as list(tol = 1e-10).
#' @return list of the outputs by name, with the certificates as the attribute "certificates".
matfn <- function(name, inputs, params = list(), options = list(),
                  url = Sys.getenv("MATFN_URL", "http://127.0.0.1:8000"), key = Sys.getenv("MATFN_API_KEY"), tries = 5) {
  named <- function(values) if (length(values)) values else setNames(list(), character())
  call <- list(inputs = lapply(inputs, encoded), params = named(params), options = named(options))
  handle <- curl::new_handle(postfields = jsonlite::toJSON(call, auto_unbox = TRUE, digits = NA))
  authorization <- if (nzchar(key)) list(Authorization = paste("Bearer", key))
  curl::handle_setheaders(handle, .list = c(list("Content-Type" = "application/json"), authorization))
  repeat {
    response <- curl::curl_fetch_memory(paste0(url, "/v1/", name), handle)
    answer <- jsonlite::fromJSON(rawToChar(response$content), simplifyVector = FALSE)
    if (response$status_code == 200) break
    tries <- tries - 1
    if (tries < 1 || is.null(answer$retry_after_ms)) stop(problem(answer))
    Sys.sleep(answer$retry_after_ms / 1000) # every call may be repeated
  }
  structure(lapply(answer$outputs, decoded), certificates = answer$certificates)
}

# A condition of the class of its code: tryCatch(..., not_positive = function(problem) problem$hint)
problem <- function(answer) {
  text <- paste(c(paste0(answer$code, ": ", answer$detail), answer$hint), collapse = "; ")
  structure(c(list(message = text, call = NULL), answer), class = c(answer$code, "matfn_problem", "error", "condition"))
}

# R stores columns one after the other, the service rows: the dimensions go in reverse.
encoded <- function(value) {
  shape <- if (is.null(dim(value))) length(value) else dim(value)
  rows <- if (length(shape) > 1) aperm(value) else value
  octets <- writeBin(as.double(rows), raw(), endian = "little")
  list(dtype = "float64", shape = I(shape), data = gsub("\n", "", jsonlite::base64_enc(octets), fixed = TRUE))
}

decoded <- function(tensor) {
  stopifnot(tensor$dtype == "float64")
  octets <- jsonlite::base64_dec(tensor$data)
  numbers <- readBin(octets, "double", length(octets) / 8, endian = "little")
  shape <- unlist(tensor$shape)
  if (length(shape) < 2) numbers else aperm(array(numbers, rev(shape)))
}

main <- function(words) {
  read <- function(path) {
    rows <- unname(as.matrix(read.csv(path, header = FALSE)))
    if (nrow(rows) > 1) rows else as.vector(rows)
  }
  pairs <- strsplit(words[-1], "=", fixed = TRUE)
  values <- setNames(lapply(pairs, `[`, 2), vapply(pairs, `[`, "", 1))
  is_file <- grepl("[.]csv$", values)
  parsed <- function(text) if (text %in% c("true", "false")) text == "true" else type.convert(text, as.is = TRUE)
  outputs <- matfn(words[1], lapply(values[is_file], read), lapply(values[!is_file], parsed))
  certificate <- attr(outputs, "certificates")[[1]]
  for (name in names(outputs)) {
    message(paste(name, certificate$outcome, certificate$error_estimate))
    rows <- if (is.matrix(outputs[[name]])) outputs[[name]] else t(outputs[[name]])
    writeLines(apply(rows, 1, function(row) paste(format(row, digits = 17, trim = TRUE, drop0trailing = TRUE), collapse = ",")))
  }
}

if (sys.nframe() == 0) {
  tryCatch(main(commandArgs(trailingOnly = TRUE)), matfn_problem = function(problem) {
    message(problem$message)
    quit(status = 1)
  })
}
